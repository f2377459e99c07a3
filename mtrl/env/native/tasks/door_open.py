"""door-open-v3: pull a door open by its handle."""

import math

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

SUCCESS_DISTANCE = 0.08

# The handle and the hinge.
places = {
    "object": "geom handle xpos",
    "object_rotation": "geom handle xmat",
    "door_angle": "joint doorjoint qpos",
}
observe = m.position_and_matrix


@m.compiled
def _ready_to_open(hand: m.Vector, door: m.Vector) -> float:
    """Return how well the hand is placed behind the handle, having come from above."""
    threshold = 0.12
    # The hand must stay above a funnel centred on the handle, lest it runs into the handle.
    floor = m.funnel(m.distance_in_plane(hand, door, 0, 1), threshold, 0.04, 0.4)
    above_floor = 1.0 if hand[2] >= floor else m.tolerance(floor - hand[2], 0.0, 0.01, floor / 2.0)
    behind_handle = m.length(m.minus(m.minus(hand, door), (0.05, 0.03, -0.01)))
    in_place = m.tolerance(behind_handle, 0.0, threshold / 2.0, 0.5)
    return m.hamacher_product(above_floor, in_place)


@m.compiled
def _opened(angle: float) -> float:
    """Return how far the door is open, a fifth of it for moving it at all."""
    moved = 1.0 if angle < -math.pi / 90.0 else 0.0
    return 0.2 * moved + 0.8 * m.tolerance(math.pi / 2.0 + math.pi / 6 - -angle, 0.0, 0.5, math.pi / 3.0)


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for a closed gripper at the handle and for opening, and whether the door is open."""
    effort = min(max(copy.action[3], -1.0), 1.0)
    reward_grab = m.rounded(m.rounded(effort + 1.0, copy.single) / 2.0, copy.single)
    door = m.plus(m.triple(copy.observation, 4), (-0.05, 0.0, 0.0))
    ready = _ready_to_open(m.triple(copy.observation, 0), door)

    solved = abs(copy.observation[4] - copy.goal.target_pos[0]) <= SUCCESS_DISTANCE
    if solved:
        return 10.0, solved
    opened = _opened(m.doubles(copy.places.door_angle)[0])
    return 2.0 * m.hamacher_product(ready, reward_grab) + 8.0 * opened, solved


@m.rewards
def reward_v1(copy: Copy) -> tuple[float, bool]:
    """Return the v1 reward for fingers at the handle and for opening, and whether the door is open."""
    handle, target = m.triple(copy.observation, 4), m.triple(copy.goal.target_pos)
    pull_dist = m.distance_in_plane(handle, target, 0, 1)
    reward = m.reward_at_object_v1(copy, m.nearness_v1(copy.goal.max_pull_dist, pull_dist))
    return reward, abs(handle[0] - target[0]) <= SUCCESS_DISTANCE
