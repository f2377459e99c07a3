"""door-close-v3: push a door shut."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05
SUCCESS_DISTANCE = 0.08

# The handle.
places = {"object": "geom handle xpos", "object_rotation": "geom handle xmat"}
observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for a hand at the target and for closing, and whether the door is shut."""
    obj, target = m.triple(copy.observation, 4), m.triple(copy.goal.target_pos)
    obj_to_target = m.distance(obj, target)
    in_place_margin = m.distance(m.triple(copy.goal.obj_init_pos), target)
    in_place = m.gaussian_tolerance(obj_to_target, 0.0, TARGET_RADIUS, in_place_margin)

    tcp_to_target = m.distance(m.tcp_center(copy), target)
    hand_margin = m.distance(m.triple(copy.goal.hand_init_pos), obj) + 0.1
    hand_in_place = m.gaussian_tolerance(tcp_to_target, 0.0, 0.25 * TARGET_RADIUS, hand_margin)

    reward = 3.0 * hand_in_place + 6.0 * in_place
    if obj_to_target < TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= SUCCESS_DISTANCE
