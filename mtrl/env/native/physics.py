"""What no environment can do without, in compiled code and nothing else: for benchmarks to compare with."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mtrl.env.native.memory import call, store
from mtrl.env.native.records import FRAME_SKIP


@njit(nogil=True)
def simulate(
    addresses: NDArray[np.int64],
    hands: NDArray[np.float64],
    fingers: NDArray[np.float64],
    mj_step: int,
    mj_forward: int,
) -> None:
    """Advance simulations by environment steps whose inputs are known beforehand, one step of all after another.

    Args:
        addresses: Of each simulation's mjModel, mjData, mocap_pos and ctrl, ``(n, 4)``.
        hands: Where each hand is dragged to, ``(steps, n, 3)``.
        fingers: Force on each finger, ``(steps, n, 2)``.
        mj_step: Address of MuJoCo's function.
        mj_forward: Address of MuJoCo's function.
    """
    for step in range(len(hands)):
        for i in range(len(addresses)):
            model, data = addresses[i, 0], addresses[i, 1]
            for axis in range(3):
                store(addresses[i, 2], axis, hands[step, i, axis])
            for finger in range(2):
                store(addresses[i, 3], finger, fingers[step, i, finger])
            for _ in range(FRAME_SKIP):
                call(mj_step, model, data)
            call(mj_forward, model, data)
