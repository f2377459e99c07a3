"""Environment steps per second: physics alone, native, stock in one process, stock in processes, EnvPool.

All play the same random actions on the same goals, in blocks of whole 500-step episodes with their resets.
"Physics" is what no environment can do without: 5 x mj_step and mj_forward, called from compiled code without any
Python in between, with each step's inputs computed beforehand. EnvPool (``pip install
'mtrl-metaworld[envpool]'``) has Meta-World's tasks in C++ with goals of its own; its threads are its own too, so
that it is compared by steps per second of processor time (``native_cpu``, ``envpool_cpu``).
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import mean
from typing import Any

import mujoco
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv

from mtrl.benchmark.pairing import Block, medians, ratio, take_turns
from mtrl.env.make import make_vec_env
from mtrl.env.metaworld import STATE, StockEnv, get_physics, goal_set, make_original, metaworld_task
from mtrl.hardware import available_cores
from mtrl.packages import installed
from mtrl.tasks import HORIZON, MT3, MT10, MT25, MT50

_SETS = {"mt3": MT3, "mt10": MT10, "mt25": MT25, "mt50": MT50}
_MAIN = ("native_over_physics", "native_over_stock", "native_over_envpool", "threads_over_one")
_SEED = _GOAL = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this subcommand."""
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds of each comparison (5)")
    parser.add_argument(
        "--tasks",
        nargs="*",
        default=["mt10"],
        help="to measure singly; a set's name adds the set as a whole (mt10)",
    )
    parser.add_argument("--copies", type=int, default=1, help="copies per task (1)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="compared with one thread")
    parser.add_argument("--no-subproc", action="store_true", help="leave out stock environments in processes")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return the rates in environment steps per second, and their ratios.

    Of the keys, ``native_over_physics`` and ``native_over_stock`` (DummyVecEnv) are of the last set named on one
    thread, MT10 if none is named; ``mean_native_over_physics`` is the mean over the tasks measured singly.
    """
    whole = [name for name in arguments.tasks if name in _SETS] or ["mt10"]
    singles = list(dict.fromkeys(task for name in arguments.tasks for task in _SETS.get(name, [name])))
    rows = {}
    for name, tasks in [(task, [task]) for task in singles] + [(name.upper(), _SETS[name]) for name in whole]:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        threads = arguments.threads if len(tasks) > 1 else 1
        rows[name] = _measure(tasks, arguments.copies, arguments.rounds, threads, not arguments.no_subproc)
    result = {key: getattr(arguments, key) for key in ("rounds", "copies", "threads")} | {"sets": rows}
    result |= {key: value for key, value in rows[whole[-1].upper()].items() if key in _MAIN}
    if singles:
        result["mean_native_over_physics"] = mean(rows[task]["native_over_physics"] for task in singles)
    return result


def _measure(tasks: Sequence[str], copies: int, rounds: int, threads: int, subproc: bool) -> dict[str, float]:
    assignment = [task for task in range(len(tasks)) for _ in range(copies)]
    actions = np.random.default_rng(0).uniform(-1, 1, (HORIZON, len(assignment), 4)).astype(np.float32)
    make = partial(make_vec_env, tasks, copies, seed=_SEED)
    envs = {"native": make(backend="native", threads=1), "stock": make(backend="stock", workers=1)}
    if threads > 1:
        envs["threads"] = make(backend="native", threads=threads)
    if subproc:
        goals = [goal_set(task, _SEED) for task in tasks]
        makers = [partial(StockEnv, tuple(tasks), goals, task=task, seed=0) for task in assignment]
        envs["subproc"] = SubprocVecEnv(makers, start_method="forkserver")
    sides = {"physics": _physics([tasks[task] for task in assignment], actions)}
    sides |= {name: _episodes(env, assignment, actions) for name, env in envs.items()}
    if installed("envpool"):
        sides["native_cpu"] = _episodes(envs["native"], assignment, actions, time.process_time)
        sides["envpool_cpu"] = _envpool(tasks, copies, actions)
    try:
        rates = take_turns(sides, rounds)
    finally:
        for env in envs.values():
            env.close()
    pairs = {f"native_over_{base}": ("native", base) for base in ("physics", "stock", "subproc")}
    pairs["native_over_envpool"] = "native_cpu", "envpool_cpu"
    pairs["threads_over_one"] = "threads", "native"
    return medians(rates) | {
        key: ratio(rates, *pair) for key, pair in pairs.items() if rates.keys() >= {*pair}
    }


def _block(
    actions: np.ndarray,
    play: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
    begin: Callable[[], None] = lambda: None,
) -> Block:
    """Return a block that plays ``actions``, ``(steps, copies, 4)``; what ``begin`` does is not timed."""

    def block() -> float:
        begin()
        started = clock()
        play()
        return actions.shape[0] * actions.shape[1] / (clock() - started)

    return block


def _episodes(env: Any, assignment: Sequence[int], actions: np.ndarray, *clock: Callable[[], float]) -> Block:
    """Return a block: a whole episode of every copy, and the resets after it."""
    for copy, task in enumerate(assignment):
        env.env_method("set_task", task, _GOAL, indices=[copy])
    env.reset()

    def play() -> None:
        for action in actions:
            env.step(action)

    return _block(actions, play, *clock)


def _envpool(tasks: Sequence[str], copies: int, actions: np.ndarray) -> Block:
    """Return a block: the same actions in EnvPool's environments, a pool of one thread for each task."""
    import envpool

    names = [
        "MetaWorld/" + "".join(part.capitalize() for part in task[:-3].split("-")) + "-v3" for task in tasks
    ]
    pools = [envpool.make(name, env_type="gymnasium", num_envs=copies, num_threads=1) for name in names]
    for pool in pools:
        pool.reset()

    def play() -> None:
        for action in actions:
            for i, pool in enumerate(pools):
                pool.send(action[i * copies : (i + 1) * copies])
            for pool in pools:
                pool.recv()

    return _block(actions, play, time.process_time)


def _physics(names: Sequence[str], actions: np.ndarray) -> Block:
    """Return a block: the same episodes, of which only what MuJoCo computes."""
    # They need numba: without it, the native environments have said so before.
    from mtrl.env.native import mujoco_c
    from mtrl.env.native.kernel import simulate

    functions = mujoco_c.function_addresses()
    starts, addresses, inputs = [], [], []
    for copy, name in enumerate(names):
        env = make_original(name)
        env.set_task(metaworld_task(name, goal_set(name, _SEED)[_GOAL]))
        env.reset()
        model, data = env.model, env.data
        starts.append((model, data, get_physics(model, data)))
        inputs.append(_inputs(env, actions[:, copy]))
        data.mocap_quat[0] = (1, 0, 1, 0)
        addresses.append([model._address, data._address, data.mocap_pos.ctypes.data, data.ctrl.ctypes.data])
    hands, fingers = (np.ascontiguousarray(np.stack(values, axis=1)) for values in zip(*inputs, strict=True))
    places = np.array(addresses)

    def begin() -> None:
        for model, data, start in starts:
            mujoco.mj_setState(model, data, start, STATE)

    return _block(actions, lambda: simulate(places, hands, fingers, *functions), begin=begin)


def _inputs(env: Any, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the hand is dragged to, ``(steps, 3)``, and the fingers' forces, ``(steps, 2)``."""
    hand, hands = env.data.mocap_pos[0].copy(), []
    for action in actions:
        hand = np.clip(hand + action[:3] * env.action_scale, env.mocap_low, env.mocap_high)
        hands.append(hand)
    return np.array(hands), np.stack([actions[:, 3], -actions[:, 3]], axis=1).astype(np.float64)
