"""shelf-place-v3: pick up a block and place it on a shelf."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05
SUCCESS_RADIUS = 0.07

_HEIGHT = 0.24
_HALF_WIDTH = 0.15

# The block.
places = {"object": "body obj xpos", "object_rotation": "geom objGeom xmat"}
observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping, lifting and placing the block, and whether it is at the target."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    obj_init, target = m.triple(copy.goal.obj_init_pos), m.triple(copy.goal.target_pos)
    obj_to_target = m.distance(obj, target)
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    in_place = m.tolerance(obj_to_target, 0.0, TARGET_RADIUS, m.distance(obj_init, target))

    object_grasped, single = m.grip(copy, m.caging(copy, obj, 0.02, 0.05, 0.01))
    reward = m.hamacher_product(object_grasped, in_place, single)

    # Lower than the board and in front of it, the nearer the worse; below the board, nothing.
    if 0.0 < obj[2] < _HEIGHT and target[0] - _HALF_WIDTH < obj[0] < target[0] + _HALF_WIDTH:
        before, depth = target[1] - 3.0 * TARGET_RADIUS, 3.0 * TARGET_RADIUS
        if before < obj[1] < target[1]:
            z_scaling = (_HEIGHT - obj[2]) / _HEIGHT
            bound_loss = m.hamacher_product((obj[1] - before) / depth, z_scaling)
            in_place = min(max(in_place - bound_loss, 0.0), 1.0)
            # numpy's clip gives a float64, which keeps its precision against a float32.
            single = False
        elif obj[1] > target[1]:
            in_place = 0.0

    if tcp_to_obj < 0.025 and tcp_opened > 0.0 and obj[2] - 0.01 > obj_init[2]:
        reward = m.rounded(reward + m.rounded(1.0 + 5.0 * in_place, single), single)
    if obj_to_target < TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= SUCCESS_RADIUS
