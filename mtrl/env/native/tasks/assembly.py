"""assembly-v3: pick up a wrench and put its ring on a peg."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

_HANDLE_LENGTH = 0.02
# Errors in height weigh three times.
_SCALE = (1.0, 1.0, 3.0)

# The wrench's handle and the centre of its ring.
places = {
    "object": "site RoundNut-8 xpos",
    "object_rotation": "body RoundNut xquat",
    "nut": "site RoundNut xpos",
}
observe = m.position_and_quaternion


@m.compiled
def _in_place(center: m.Vector, target: m.Vector) -> tuple[float, bool]:
    """Return how near the ring is to the peg, a tenth of it for lifting it at all, and whether it is on the peg."""
    error, radius = m.minus(target, center), m.distance_in_plane(target, center, 0, 1)
    solved = radius < 0.02 and error[2] > 0.0
    # Once the ring is on the peg, it need not be aligned so well.
    threshold = 0.02 if solved else 0.01
    height = m.funnel(radius, threshold, 0.02, 0.2)
    error = (error[0], error[1], height - center[2])
    lifted = 1.0 if center[2] > 0.02 or radius < threshold else 0.0
    return 0.1 * lifted + 0.9 * m.tolerance(m.length(m.times(error, _SCALE)), 0.0, 0.02, 0.4), solved


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the wrench and placing it, kept flat, and whether it is on the peg."""
    wrench = m.triple(copy.observation, 4)
    # Along the handle the hand may be anywhere.
    if abs(wrench[0] - copy.observation[0]) < _HANDLE_LENGTH / 2.0:
        wrench = (copy.observation[0], wrench[1], wrench[2])
    grab, single = m.reach_and_caging_reward(copy, wrench, 0.015, 0.02, 0.01, 0.01)
    in_place, solved = _in_place(m.vector(copy.places.nut), m.triple(copy.goal.target_pos))
    if solved:
        return 10.0, solved
    flat = m.turned_a_quarter(copy, 0.4)
    reward = m.rounded(2.0 * grab + m.rounded(6.0 * in_place, single), single)
    return m.rounded(reward * m.rounded(flat, single), single), solved
