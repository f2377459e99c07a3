"""reach-v3: bring the gripper to a point in the air."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05

# The puck, which plays no part in the reward.
places = {"object": "body obj xpos", "object_rotation": "geom objGeom xmat"}
observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward, which grows as the fingers near the target, and whether they are there."""
    target = m.triple(copy.goal.target_pos)
    tcp_to_target = m.distance(m.tcp_center(copy), target)
    in_place_margin = m.distance(m.triple(copy.goal.hand_init_pos), target)
    in_place = m.tolerance(tcp_to_target, 0.0, TARGET_RADIUS, in_place_margin)
    return 10.0 * in_place, tcp_to_target <= TARGET_RADIUS


@m.rewards
def reward_v1(copy: Copy) -> tuple[float, bool]:
    """Return the v1 reward, which grows as the fingers near the target, and whether they are there."""
    tcp_to_target = m.distance(m.tcp_center(copy), m.triple(copy.goal.target_pos))
    return max(m.nearness_v1(copy.goal.max_reach_dist, tcp_to_target), 0.0), tcp_to_target <= TARGET_RADIUS
