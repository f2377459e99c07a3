"""disassemble-v3: lift a wrench off its peg."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

WRENCH_HANDLE_LENGTH = 0.02

# Where the wrench is held, and the centre of its ring.
places = {
    "object": "site RoundNut-8 xpos",
    "object_rotation": "body RoundNut xquat",
    "nut": "site RoundNut xpos",
}
observe = m.position_and_quaternion


@m.compiled
def _lifted(centre: m.Vector, target: m.Vector) -> float:
    """Return how near the ring is to a point above the target, a tenth of it for lifting the wrench at all."""
    error = m.distance(m.plus(target, (0.0, 0.0, 0.1)), centre)
    lifted = 1.0 if centre[2] > 0.02 else 0.0
    return 0.1 * lifted + 0.9 * m.tolerance(error, 0.0, 0.02, 0.2)


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping and lifting the wrench, and whether it is off the peg."""
    hand, wrench = m.triple(copy.observation, 0), m.triple(copy.observation, 4)
    target = m.triple(copy.goal.target_pos)
    # Along its handle the wrench may be held anywhere.
    held_x = hand[0] if abs(wrench[0] - hand[0]) < WRENCH_HANDLE_LENGTH / 2.0 else wrench[0]
    grab, single = m.caging_reward(copy, (held_x, wrench[1], wrench[2]), 0.015, 0.02, 0.01)
    in_place = m.rounded(6.0 * _lifted(m.vector(copy.places.nut), target), single)
    grab_and_lift = m.rounded(m.rounded(2.0 * grab, single) + in_place, single)

    solved = wrench[2] > target[2]
    if solved:
        return 10.0, solved
    flat = m.turned_a_quarter(copy, 0.4)
    return m.rounded(grab_and_lift * m.rounded(flat, single), single), solved
