"""peg-unplug-side-v3: pull a peg out of its hole."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05
SUCCESS_RADIUS = 0.07

# The end of the peg, and the peg.
places = {"object": "site pegEnd xpos", "object_rotation": "body plug1 xquat"}
observe = m.position_and_quaternion


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the peg and for pulling it out, and whether it is at the target."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    obj_init, target = m.triple(copy.goal.obj_init_pos), m.triple(copy.goal.target_pos)
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    obj_to_target = m.distance(obj, target)
    in_place = m.tolerance(obj_to_target, 0.0, TARGET_RADIUS, m.distance(obj_init, target))

    object_grasped, single = m.caging_reward(copy, obj, 0.025, 0.05, 0.005, 0.8)
    reward = 2.0 * object_grasped
    if tcp_opened > 0.5 and obj[0] - obj_init[0] > 0.015 and tcp_to_obj < 0.035:
        reward = m.rounded(m.rounded(1.0 + reward, single) + m.rounded(5.0 * in_place, single), single)
    if obj_to_target <= TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= SUCCESS_RADIUS
