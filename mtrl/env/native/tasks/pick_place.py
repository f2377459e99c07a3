"""pick-place-v3: pick up the puck and carry it to a point in the air."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05
SUCCESS_RADIUS = 0.07

_OBJECT_RADIUS = 0.015
_XZ_SUCCESS_MARGIN = 0.005

# The puck.
places = {"object": "body obj xpos", "object_rotation": "geom objGeom xmat"}
observe = m.position_and_matrix


@m.compiled
def _caging(copy: Copy, obj: m.Vector) -> tuple[float, bool]:
    """Return this task's own version of ``maths.caging_reward``."""
    y_caging = m.caging_between_pads(copy, obj, _OBJECT_RADIUS)
    return m.cage_and_grip(copy, m.hamacher_product(y_caging, m.caging_xz(copy, obj, _XZ_SUCCESS_MARGIN)))


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping, lifting and placing the puck, and whether it is at the target."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    target = m.triple(copy.goal.target_pos)
    obj_to_target = m.distance(obj, target)
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    in_place_margin = m.distance(m.triple(copy.goal.obj_init_pos), target)
    in_place = m.tolerance(obj_to_target, 0.0, TARGET_RADIUS, in_place_margin)

    object_grasped, single = _caging(copy, obj)
    reward = m.hamacher_product(object_grasped, in_place, single)
    if tcp_to_obj < 0.02 and tcp_opened > 0.0 and obj[2] - 0.01 > copy.goal.obj_init_pos[2]:
        reward = m.rounded(reward + m.rounded(1.0 + 5.0 * in_place, single), single)
    if obj_to_target < TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= SUCCESS_RADIUS


@m.rewards
def reward_v1(copy: Copy) -> tuple[float, bool]:
    """Return the v1 reward for grasping, lifting and placing the puck, and whether it is at the target."""
    placing_dist = m.distance(m.triple(copy.observation, 4), m.triple(copy.goal.target_pos))
    return m.reward_of_carrying_v1(copy, placing_dist, placing_dist, 2.0), placing_dist <= SUCCESS_RADIUS
