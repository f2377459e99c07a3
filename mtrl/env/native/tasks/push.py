"""push-v3: push the puck to a point on the table."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05

# The puck.
places = {"object": "body obj xpos", "object_rotation": "geom objGeom xmat"}
observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for caging the puck and for bringing it to the target, and whether it is there."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    target = m.triple(copy.goal.target_pos)
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    target_to_obj = m.distance(obj, target)
    target_to_obj_init = m.distance(m.triple(copy.goal.obj_init_pos), target)
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, target_to_obj_init)

    object_grasped, single = m.caging_reward(copy, obj, 0.015, 0.05, 0.005)
    reward = 2.0 * object_grasped
    if tcp_to_obj < 0.02 and tcp_opened > 0.0:
        more = m.rounded(m.rounded(1.0 + reward, single) + m.rounded(5.0 * in_place, single), single)
        reward = m.rounded(reward + more, single)
    if target_to_obj < TARGET_RADIUS:
        reward = 10.0
    return reward, target_to_obj <= TARGET_RADIUS


@m.rewards
def reward_v1(copy: Copy) -> tuple[float, bool]:
    """Return the v1 reward for pushing the puck, whose height does not count, and whether it is at the target."""
    push_dist = m.distance_in_plane(m.triple(copy.observation, 4), m.triple(copy.goal.target_pos), 0, 1)
    return m.reward_at_object_v1(
        copy, m.nearness_v1(copy.goal.max_push_dist, push_dist)
    ), push_dist <= TARGET_RADIUS
