"""box-close-v3: put the lid on a box."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

SUCCESS_DISTANCE = 0.08

# Errors in height weigh three times.
_SCALE = (1.0, 1.0, 3.0)

# The lid.
places = {"object": "body top_link xpos", "object_rotation": "body top_link xquat"}
observe = m.position_and_quaternion


@m.compiled
def _ready_to_lift(hand: m.Vector, lid: m.Vector) -> float:
    """Return how well the hand is placed at the lid's handle, having come from above."""
    floor = m.funnel(m.distance_in_plane(hand, lid, 0, 1), 0.02, 0.04, 0.4)
    above_floor = 1.0 if hand[2] >= floor else m.tolerance(floor - hand[2], 0.0, 0.01, floor / 2.0)
    in_place = m.tolerance(m.distance(hand, lid), 0.0, 0.02, 0.5)
    return m.hamacher_product(above_floor, in_place)


@m.compiled
def _lifted(lid: m.Vector, target: m.Vector) -> float:
    """Return how near the lid is to the box, a fifth of it for lifting it at all."""
    off_the_table = 1.0 if lid[2] > 0.04 else 0.0
    error = m.length(m.times(m.minus(target, lid), _SCALE))
    return 0.2 * off_the_table + 0.8 * m.tolerance(error, 0.0, 0.05, 0.25)


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the lid and placing it, kept upright, and whether it is on the box."""
    effort = min(max(copy.action[3], -1.0), 1.0)
    reward_grab = m.rounded(m.rounded(effort + 1.0, copy.single) / 2.0, copy.single)
    obj, target = m.triple(copy.observation, 4), m.triple(copy.goal.target_pos)
    lid = m.plus(obj, (0.0, 0.0, 0.02))
    ready = _ready_to_lift(m.triple(copy.observation, 0), lid)

    reward = 2.0 * m.hamacher_product(reward_grab, ready) + 8.0 * _lifted(lid, target)
    solved = m.distance(obj, target) < SUCCESS_DISTANCE
    if solved:
        reward = 10.0
    return reward * m.turned_a_quarter(copy, 0.2), solved
