"""bin-picking-v3: pick up the puck in one bin and put it into the other."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05

# The puck.
places = {"object": "body obj xpos", "object_rotation": "body obj xquat"}
observe = m.position_and_quaternion


@m.compiled
def _above_floor(copy: Copy, hand: m.Vector) -> float:
    """Return whether the hand stays above the bins' edges, in funnels where the puck was and where it goes."""
    from_start = m.distance_in_plane(hand, m.triple(copy.goal.obj_init_pos), 0, 1)
    from_target = m.distance_in_plane(hand, m.triple(copy.goal.target_pos), 0, 1)
    floor = min(m.funnel(from_start, 0.03, 0.02, 0.2), m.funnel(from_target, 0.03, 0.02, 0.2))
    return 1.0 if hand[2] >= floor else m.tolerance(floor - hand[2], 0.0, 0.01, 0.05)


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the puck and bringing it to the other bin, and whether it is there."""
    hand, obj = m.triple(copy.observation, 0), m.triple(copy.observation, 4)
    target_to_obj = m.distance(obj, m.triple(copy.goal.target_pos))
    if copy.length == 0:
        # Not where the reset puts the puck: it has begun to fall.
        copy.first_distance = target_to_obj
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, copy.first_distance)

    object_grasped, single = m.caging_reward(copy, obj, 0.015, 0.05, 0.01, 0.7)
    reward = m.hamacher_product(object_grasped, in_place, single)
    near, pinched = m.distance(obj, hand) < 0.04, copy.observation[3] < 0.43
    if near and obj[2] - 0.02 > copy.goal.obj_init_pos[2] and not pinched:
        more = 1.0 + 5.0 * m.hamacher_product(_above_floor(copy, hand), in_place)
        reward = m.rounded(reward + m.rounded(more, single), single)
    if target_to_obj < TARGET_RADIUS:
        reward = 10.0
    return reward, target_to_obj <= TARGET_RADIUS
