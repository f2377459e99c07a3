"""What no environment can do without, in compiled code and nothing else: for benchmarks to compare with."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import from_dtype, njit, types
from numpy.typing import NDArray

from mtrl.env.native.maths import compiled, distance, rounded, vector
from mtrl.env.native.memory import call, load, load_int32, store, take_next
from mtrl.env.native.records import COPY, FRAME_SIZE, FRAME_SKIP
from mtrl.env.native.tasks import MODULES
from mtrl.tasks import OBSERVATION_SIZE

_ACTION_SCALE = 1.0 / 100
_FINGERS_APART = 0.1


def by_number(functions: Sequence[Callable[..., Any]], arguments: str) -> Callable[..., Any]:
    """Return a compiled function of ``number`` and ``arguments`` that calls that one of ``functions``.

    numba has no table of functions, and one written out by hand could disagree with the tasks', so its source
    is generated: a flat chain of ifs, which takes the compiler less time than functions that call each other.
    """
    names = {f"function_{number}": function for number, function in enumerate(functions)}
    lines = [f"def chosen(number, {arguments}):"]
    lines += [f"    if number == {i}: return {name}({arguments})" for i, name in enumerate(names)]
    # Nothing has another number; the compiler asks what would be returned.
    lines[-1] = f"    return {list(names)[-1]}({arguments})"
    exec("\n".join(lines), names)
    return compiled(names["chosen"])


_observe_object = by_number([module.observe for module in MODULES.values()], "places")
_reward = by_number([module.reward for module in MODULES.values()], "places, goal, obs, action, single")


@compiled
def _act(copy: np.record, action: NDArray[np.float64], single: bool) -> None:
    """Move the mocap body that drags the hand, and set the two fingers' forces."""
    scale = rounded(_ACTION_SCALE, single)
    for axis in range(3):
        offset = min(max(action[axis], -1.0), 1.0)
        position = load(copy.mocap_pos, axis) + rounded(offset * scale, single)
        position = min(max(position, copy.mocap_low[axis]), copy.mocap_high[axis])
        store(copy.mocap_pos, axis, position)
    for element in range(4):
        store(copy.mocap_quat, element, 1.0 - element % 2)
    store(copy.ctrl, 0, action[3])
    store(copy.ctrl, 1, -action[3])


@compiled
def _observe(copy: np.record) -> None:
    """Write the observation: this frame, the one before, the target; clipped as Meta-World clips it."""
    places, obs, frame = copy.places, copy.observation, copy.frame
    for i in range(FRAME_SIZE):
        obs[FRAME_SIZE + i] = frame[i]

    hand = vector(places.hand)
    opening = distance(vector(places.right_claw), vector(places.left_claw)) / _FINGERS_APART
    position, quaternion = _observe_object(copy.task, places)
    for axis in range(3):
        frame[axis] = hand[axis]
        frame[4 + axis] = position[axis]
    frame[3] = min(max(opening, 0.0), 1.0)
    for element in range(4):
        frame[7 + element] = quaternion[element]
    for i in range(11, FRAME_SIZE):
        frame[i] = 0.0

    for i in range(FRAME_SIZE):
        obs[i] = frame[i]
    for axis in range(3):
        obs[2 * FRAME_SIZE + axis] = copy.goal.target_pos[axis]
    for i in range(OBSERVATION_SIZE):
        obs[i] = min(max(obs[i], copy.observation_low[i]), copy.observation_high[i])


@compiled
def _went_wrong(copy: np.record) -> bool:
    """Tell whether MuJoCo met bad numbers, after which it silently resets the simulation."""
    return load_int32(copy.warnings[0]) + load_int32(copy.warnings[1]) + load_int32(copy.warnings[2]) > 0


@compiled
def _simulate(
    copy: np.record, action: NDArray[np.float64], single: bool, mj_step: int, mj_forward: int
) -> None:
    """Write observation, reward and success of the next state, or that the simulation became unstable."""
    _act(copy, action, single)
    for _ in range(FRAME_SKIP):
        call(mj_step, copy.model, copy.data)
    call(mj_forward, copy.model, copy.data)
    copy.unstable = _went_wrong(copy)
    if not copy.unstable:
        _observe(copy)
        copy.reward, copy.success = _reward(
            copy.task, copy.places, copy.goal, copy.observation, action, single
        )
        copy.unstable = not np.isfinite(copy.reward)
        for value in copy.observation:
            copy.unstable |= not np.isfinite(value)


@compiled
def _count(copy: np.record, horizon: int, terminate_on_success: bool) -> tuple[bool, bool]:
    """Count the step into the episode; return whether it terminated and whether it was truncated.

    An unstable step does not count: reward 0, and the episode is truncated where it was.
    """
    if copy.unstable:
        copy.reward, copy.success = 0.0, False
        return False, True
    copy.length += 1
    copy.episode_return += copy.reward
    copy.solved |= copy.success
    terminated = terminate_on_success and copy.success
    return terminated, copy.length >= horizon and not terminated


@njit(
    types.void(
        types.boolean,
        types.int64,
        types.boolean,
        from_dtype(COPY)[::1],
        types.float64[:, ::1],
        types.float32[:, ::1],
        types.float32[::1],
        types.boolean[::1],
        types.boolean[:, ::1],
        types.int64,
        types.int64,
        types.int64,
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
    actions: NDArray[np.float64],
    observations: NDArray[np.float32],
    rewards: NDArray[np.float32],
    dones: NDArray[np.bool_],
    flags: NDArray[np.bool_],
    mj_step: int,
    mj_forward: int,
    next_copy: int,
) -> None:
    """Advance copies by one environment step until none is left.

    Several threads may call this at once with the same arguments: each takes the next copy that nobody has.

    Args:
        single: The actions came in float32.
        horizon: Length of an episode in environment steps.
        terminate_on_success: An episode ends when the task is solved.
        copies: Records of type ``COPY``, ``(n_envs,)``.
        actions: ``(n_envs, 4)``, in float64 whatever they came in.
        observations: Written, ``(n_envs, 39 or more)``; a row stays as it is where a simulation is unstable.
        rewards: Written, ``(n_envs,)``.
        dones: Written, ``(n_envs,)``.
        flags: Written, ``(n_envs, 4)``, in the order of ``records.FLAGS``.
        mj_step: Address of MuJoCo's function.
        mj_forward: Address of MuJoCo's function.
        next_copy: Address of an int64, 0 at first, that counts the copies taken.
    """
    while True:
        i = take_next(next_copy)
        if i >= len(copies):
            return
        copy = copies[i]
        _simulate(copy, actions[i], single, mj_step, mj_forward)
        terminated, truncated = _count(copy, horizon, terminate_on_success)
        if not copy.unstable:
            for k in range(OBSERVATION_SIZE):
                observations[i, k] = copy.observation[k]
        rewards[i] = copy.reward
        done = terminated or truncated
        dones[i] = done
        flags[i, 0], flags[i, 1], flags[i, 2], flags[i, 3] = copy.success, copy.solved, truncated, done


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
