"""hand-insert-v3: carry the puck into a hole in the table."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05

# The puck.
places = {"object": "body obj xpos", "object_rotation": "body obj xquat"}
observe = m.position_and_quaternion


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for caging the puck and for bringing it to the target, and whether it is there."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    target = m.triple(copy.goal.target_pos)
    target_to_obj = m.distance(obj, target)
    target_to_obj_init = m.distance(m.triple(copy.goal.obj_init_pos), target)
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, target_to_obj_init)

    object_grasped, single = m.caging_reward(copy, obj, 0.015, 0.05, 0.005)
    reward = m.hamacher_product(object_grasped, in_place, single)
    if m.distance(obj, m.tcp_center(copy)) < 0.02 and tcp_opened > 0.0:
        reward = m.rounded(reward + m.rounded(1.0 + 7.0 * in_place, single), single)
    if target_to_obj < TARGET_RADIUS:
        reward = 10.0
    return reward, target_to_obj <= TARGET_RADIUS
