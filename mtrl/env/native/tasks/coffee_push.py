"""coffee-push-v3: push a mug under the coffee machine."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05
SUCCESS_DISTANCE = 0.07

# Errors in x and y weigh twice those in height.
_SCALE = (2.0, 2.0, 1.0)

# The mug.
places = {"object": "body obj xpos", "object_rotation": "geom mug xmat"}
observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the mug and for bringing it to the target, and whether it is there."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    target = m.triple(copy.goal.target_pos)
    target_to_obj = m.length(m.times(m.minus(obj, target), _SCALE))
    target_to_obj_init = m.length(m.times(m.minus(m.triple(copy.goal.obj_init_pos), target), _SCALE))
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, target_to_obj_init)

    object_grasped, single = m.reach_and_caging_reward(copy, obj, 0.02, 0.05, 0.04, 0.05, 0.7)
    reward = m.hamacher_product(object_grasped, in_place, single)
    if m.distance(obj, m.tcp_center(copy)) < 0.04 and tcp_opened > 0.0:
        reward = m.rounded(reward + m.rounded(1.0 + 5.0 * in_place, single), single)
    if target_to_obj < TARGET_RADIUS:
        reward = 10.0
    return reward, m.distance(obj, target) <= SUCCESS_DISTANCE
