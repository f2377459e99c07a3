"""push-back-v3: grasp the puck and pull it back to a point on the table."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05
SUCCESS_RADIUS = 0.07

_OBJECT_RADIUS = 0.007

# The puck.
places = {"object": "geom objGeom xpos", "object_rotation": "geom objGeom xmat"}
observe = m.position_and_matrix


@m.compiled
def _caging(copy: Copy, obj: m.Vector) -> float:
    """Return this task's own version of ``maths.caging_reward``, which asks of the pads alone whether they grip."""
    y_caging = m.caging_between_pads(copy, obj, _OBJECT_RADIUS)
    caging = m.hamacher_product(y_caging, m.caging_xz(copy, obj, 0.01))
    if not caging > 0.95:
        return caging / 2.0
    return (caging + m.caging_between_pads(copy, obj, _OBJECT_RADIUS, _OBJECT_RADIUS + 0.003)) / 2.0


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the puck and for pulling it, and whether it is at the target."""
    obj, target = m.triple(copy.observation, 4), m.triple(copy.goal.target_pos)
    tcp_opened, tcp_to_obj = copy.observation[3], m.distance(obj, m.tcp_center(copy))
    target_to_obj = m.distance(obj, target)
    target_to_obj_init = m.distance(m.triple(copy.goal.obj_init_pos), target)
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, target_to_obj_init)

    reward = m.hamacher_product(_caging(copy, obj), in_place)
    if tcp_to_obj < 0.01 and 0.0 < tcp_opened < 0.55 and target_to_obj_init - target_to_obj > 0.01:
        reward += 1.0 + 5.0 * in_place
    if target_to_obj < TARGET_RADIUS:
        reward = 10.0
    return reward, target_to_obj <= SUCCESS_RADIUS
