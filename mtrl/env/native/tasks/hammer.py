"""hammer-v3: drive a nail in with a hammer."""

import math

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

HANDLE_LENGTH = 0.14
SUCCESS_DEPTH = 0.09

# The hammer, the nail, and how deep the nail is in.
places = {
    "object": "body hammer xpos",
    "object_rotation": "body hammer xquat",
    "second_object": "body nail_link xpos",
    "second_rotation": "body nail_link xquat",
    "nail_depth": "joint NailSlideJoint qpos",
}


@m.observes
def observe(copy: Copy) -> None:
    """Return positions and quaternions of hammer and nail."""
    m.show(copy, m.vector(copy.places.object), m.stored_quaternion(copy.places.object_rotation))
    m.show(copy, m.vector(copy.places.second_object), m.stored_quaternion(copy.places.second_rotation), 11)


@m.compiled
def _level(copy: Copy) -> float:
    """Return how nearly the hammer's quaternion is that of a hammer laid down, (1, 0, 0, 0)."""
    w, (x, y, z) = copy.observation[7], m.triple(copy.observation, 8)
    error = math.sqrt((w - 1.0) ** 2 + x * x + y * y + z * z)
    return max(1.0 - error / 0.4, 0.0)


@m.compiled
def _in_place(hammer: m.Vector, target: m.Vector) -> float:
    """Return how near the hammer's head is to the nail, a tenth of it for lifting it at all."""
    head = m.plus(hammer, (0.16, 0.06, 0.0))
    lifted = 1.0 if head[2] > 0.02 else 0.0
    return 0.1 * lifted + 0.9 * m.tolerance(m.distance(target, head), 0.0, 0.02, 0.2)


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the hammer and bringing it to the nail, and whether the nail is in."""
    hand, hammer = m.triple(copy.observation, 0), m.triple(copy.observation, 4)
    # Caging takes its object for a ball: the point of the handle that is at the hand.
    at_handle = abs(hammer[0] - hand[0]) < HANDLE_LENGTH / 2.0
    grip = (hand[0] if at_handle else hammer[0], hammer[1], hammer[2])
    level, in_place = _level(copy), _in_place(hammer, m.triple(copy.goal.target_pos))
    grab, single = m.caging_reward(copy, grip, 0.015, 0.02, 0.01)

    both = m.rounded(2.0 * grab + m.rounded(6.0 * in_place, single), single)
    reward = m.rounded(both * m.rounded(level, single), single)
    solved = m.doubles(copy.places.nail_depth)[0] > SUCCESS_DEPTH
    # The nail can be driven in without the hammer, too.
    if solved and reward > 5.0:
        reward = 10.0
    return reward, solved
