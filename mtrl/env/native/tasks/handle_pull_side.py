"""handle-pull-side-v3: pull a handle up that lies at the side of the table."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05
SUCCESS_RADIUS = 0.08

# The middle of the handle.
places = {"object": "site handleCenter xpos"}
observe = m.position_alone


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the handle and for pulling it, and whether it is up."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    target, obj_init = m.triple(copy.goal.target_pos), m.triple(copy.goal.obj_init_pos)
    target_to_obj = m.distance(obj, target)
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, m.distance(obj_init, target))

    object_grasped, single = m.caging_reward(copy, obj, 0.032, 0.06, 0.01)
    reward = m.hamacher_product(object_grasped, in_place, single)
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    if tcp_to_obj < 0.035 and tcp_opened > 0.0 and obj[2] - 0.01 > obj_init[2]:
        reward = m.rounded(reward + m.rounded(1.0 + 5.0 * in_place, single), single)
    if target_to_obj < TARGET_RADIUS:
        reward = 10.0
    return reward, target_to_obj <= SUCCESS_RADIUS
