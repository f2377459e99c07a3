"""The compiled step of all copies; and their physics alone, for benchmarks to compare with."""

import numpy as np
from numba import from_dtype, njit, types
from numpy.typing import NDArray

from mtrl.env.native.maths import compiled, distance, rounded, vector
from mtrl.env.native.memory import call_mujoco, call_observe, call_reward, doubles, load_int32, take_next
from mtrl.env.native.records import COPY, FRAME_SIZE, FRAME_SKIP, Copy
from mtrl.tasks import OBSERVATION_SIZE

_ACTION_SCALE = 1.0 / 100
_FINGERS_APART = 0.1


@compiled
def _observe(copy: Copy) -> None:
    """Write the observation: this frame, the one before, the target; clipped as Meta-World clips it."""
    obs, frame = copy.observation, copy.frame
    for i in range(FRAME_SIZE):
        obs[FRAME_SIZE + i] = frame[i]

    frame[:] = 0.0
    frame[0], frame[1], frame[2] = vector(copy.places.hand)
    opening = distance(vector(copy.places.right_claw), vector(copy.places.left_claw)) / _FINGERS_APART
    frame[3] = min(max(opening, 0.0), 1.0)
    call_observe(copy.observe, copy)

    for i in range(FRAME_SIZE):
        obs[i] = frame[i]
    for axis in range(3):
        obs[2 * FRAME_SIZE + axis] = copy.goal.target_pos[axis]
    for i in range(OBSERVATION_SIZE):
        obs[i] = min(max(obs[i], copy.observation_low[i]), copy.observation_high[i])


@compiled
def _simulate(copy: Copy, mj_step: int, mj_forward: int) -> None:
    """Write observation, reward and success of the next state, or that the simulation became unstable."""
    # The mocap body drags the hand.
    scale = rounded(_ACTION_SCALE, copy.single)
    hand, rotation, fingers = doubles(copy.mocap_pos), doubles(copy.mocap_quat), doubles(copy.ctrl)
    for axis in range(3):
        offset = min(max(copy.action[axis], -1.0), 1.0)
        position = hand[axis] + rounded(offset * scale, copy.single)
        hand[axis] = min(max(position, copy.mocap_low[axis]), copy.mocap_high[axis])
    for element in range(4):
        rotation[element] = 1.0 - element % 2
    fingers[0], fingers[1] = copy.action[3], -copy.action[3]
    for _ in range(FRAME_SKIP):
        call_mujoco(mj_step, copy.model, copy.data)
    call_mujoco(mj_forward, copy.model, copy.data)
    # After these warnings, of bad numbers, MuJoCo has silently reset the simulation.
    warnings = load_int32(copy.warnings[0]) + load_int32(copy.warnings[1]) + load_int32(copy.warnings[2])
    copy.unstable = warnings > 0
    if not copy.unstable:
        _observe(copy)
        copy.reward, copy.success = call_reward(copy.reward_function, copy)
        copy.unstable = not np.isfinite(copy.reward)
        for value in copy.observation:
            copy.unstable |= not np.isfinite(value)


@njit(
    types.void(
        *(types.boolean, types.int64, types.boolean),
        *(from_dtype(COPY)[::1], types.float32[:, ::1], types.float32[::1]),
        *(types.boolean[::1], types.boolean[:, ::1]),
        *(types.int64, types.int64, types.int64),
    ),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def step_copies(
    single: bool,
    horizon: int,
    terminate_on_success: bool,
    copies: NDArray[np.void],
    observations: NDArray[np.float32],
    rewards: NDArray[np.float32],
    dones: NDArray[np.bool_],
    flags: NDArray[np.bool_],
    mj_step: int,
    mj_forward: int,
    next_copy: int,
) -> None:
    """Advance copies by one environment step until none is left.

    Several threads may call this at once with the same arguments: each takes the next copy that nobody has, which the
    int64 at address ``next_copy``, 0 at first, counts. The actions are in the records ``copies``, ``(n_envs,)``;
    ``single`` says that they came in float32. Written are ``observations``, ``(n_envs, 39 or more)``, where a row stays
    as it is if its simulation is unstable, ``rewards``, ``dones`` and ``flags``, ``(n_envs, 4)``, see
    ``records.FLAGS``. ``mj_step`` and ``mj_forward`` are addresses of MuJoCo's functions.
    """
    while True:
        i = take_next(next_copy)
        if i >= len(copies):
            return
        copy = copies[i]
        copy.single = single
        _simulate(copy, mj_step, mj_forward)
        if copy.unstable:
            # Such a step does not count: the episode is truncated where it was.
            copy.reward, copy.success = 0.0, False
            terminated, truncated = False, True
        else:
            copy.length += 1
            copy.episode_return += copy.reward
            copy.solved |= copy.success
            terminated = terminate_on_success and copy.success
            truncated = copy.length >= horizon and not terminated
            for k in range(OBSERVATION_SIZE):
                observations[i, k] = copy.observation[k]
        rewards[i], dones[i] = copy.reward, terminated or truncated
        flags[i, 0], flags[i, 1], flags[i, 2], flags[i, 3] = copy.success, copy.solved, truncated, dones[i]


@njit(nogil=True)
def simulate(
    addresses: NDArray[np.int64],
    hands: NDArray[np.float64],
    fingers: NDArray[np.float64],
    mj_step: int,
    mj_forward: int,
) -> None:
    """Advance simulations by environment steps whose inputs are known beforehand, one step of all after another.

    ``addresses`` ``(n, 4)`` are those of each simulation's mjModel, mjData, mocap_pos and ctrl, ``hands``
    ``(steps, n, 3)`` where each hand is dragged to, and ``fingers`` ``(steps, n, 2)`` the force on each finger.
    """
    for step in range(len(hands)):
        for i in range(len(addresses)):
            model, data = addresses[i, 0], addresses[i, 1]
            for axis in range(3):
                doubles(addresses[i, 2])[axis] = hands[step, i, axis]
            for finger in range(2):
                doubles(addresses[i, 3])[finger] = fingers[step, i, finger]
            for _ in range(FRAME_SKIP):
                call_mujoco(mj_step, model, data)
            call_mujoco(mj_forward, model, data)
