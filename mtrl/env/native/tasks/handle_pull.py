"""handle-pull-v3: pull a handle up."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05

# A point beside the handle.
places = {"object": "site handleRight xpos"}
observe = m.position_alone


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the handle and for pulling it, and whether it is up."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    target_to_obj = abs(copy.goal.target_pos[2] - obj[2])
    target_to_obj_init = abs(copy.goal.target_pos[2] - copy.goal.obj_init_pos[2])
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, target_to_obj_init)

    object_grasped, single = m.caging_reward(copy, obj, 0.022, 0.05, 0.01)
    reward = m.hamacher_product(object_grasped, in_place, single)
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    # Meta-World compares y with a height here.
    if tcp_to_obj < 0.035 and tcp_opened > 0.0 and obj[1] - 0.01 > copy.goal.obj_init_pos[2]:
        reward = m.rounded(reward + m.rounded(1.0 + 5.0 * in_place, single), single)
    if target_to_obj < TARGET_RADIUS:
        reward = 10.0
    return reward, target_to_obj <= TARGET_RADIUS
