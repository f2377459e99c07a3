"""Environment steps per second: physics alone, native, stock in one process, stock in processes.

All play the same random actions on the same goals, in blocks of whole 500-step episodes with their resets.
"Physics" is what no environment can do without: 5 x mj_step and mj_forward, called from compiled code without any
Python in between, with each step's inputs computed beforehand.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import mean
from typing import Any

import numpy as np

from mtrl.benchmark.pairing import medians, ratio, take_turns
from mtrl.hardware import available_cores
from mtrl.tasks import HORIZON, MT10

_SEED = 0
_GOAL = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this subcommand."""
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds of each comparison (5)")
    parser.add_argument("--tasks", nargs="*", default=list(MT10), help="to measure singly (all of MT10)")
    parser.add_argument("--copies", type=int, default=1, help="copies per task (1)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="compared with one thread")
    parser.add_argument("--no-subproc", action="store_true", help="leave out stock environments in processes")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return the rates in environment steps per second, and their ratios.

    Of the keys, ``native_over_physics`` and ``native_over_stock`` (DummyVecEnv) are of the MT10 set on one
    thread; ``mean_native_over_physics`` is the mean over the tasks measured singly.
    """
    sets = {}
    for name, tasks in ({task: [task] for task in arguments.tasks} | {"MT10": list(MT10)}).items():
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        threads = arguments.threads if name == "MT10" else 1
        sets[name] = _measure(tasks, arguments.copies, arguments.rounds, threads, not arguments.no_subproc)
    keys = ("native_over_physics", "native_over_stock", "threads_over_one")
    result = {
        "rounds": arguments.rounds,
        "copies": arguments.copies,
        "threads": arguments.threads,
        "sets": sets,
    }
    result |= {key: sets["MT10"][key] for key in keys if key in sets["MT10"]}
    if arguments.tasks:
        singles = [sets[task]["native_over_physics"] for task in arguments.tasks]
        result["mean_native_over_physics"] = mean(singles)
    return result


def _measure(tasks: Sequence[str], copies: int, rounds: int, threads: int, subproc: bool) -> dict[str, float]:
    from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

    from mtrl.env.make import make_vec_env
    from mtrl.env.metaworld import StockEnv, goal_set

    shape = (HORIZON, len(tasks) * copies, 4)
    actions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    envs: dict[str, VecEnv] = {
        "native": make_vec_env(tasks, copies, seed=_SEED, backend="native", threads=1),
        "stock": make_vec_env(tasks, copies, seed=_SEED, backend="stock", workers=1),
    }
    if threads > 1:
        envs["threads"] = make_vec_env(tasks, copies, seed=_SEED, backend="native", threads=threads)
    if subproc:
        goals = [goal_set(task, _SEED) for task in tasks]
        make_envs = [
            partial(StockEnv, tuple(tasks), goals, task=task, seed=0)
            for task in range(len(tasks))
            for _ in range(copies)
        ]
        envs["subproc"] = SubprocVecEnv(make_envs, start_method="forkserver")
    contenders = {"physics": _physics(tasks, copies, actions)}
    contenders |= {name: _episode(env, actions, copies) for name, env in envs.items()}
    try:
        rates = take_turns(contenders, rounds)
    finally:
        for env in envs.values():
            env.close()
    row = medians(rates)
    for base in ("physics", "stock", "subproc"):
        if base in rates:
            row[f"native_over_{base}"] = ratio(rates, "native", base)
    if "threads" in rates:
        row["threads_over_one"] = ratio(rates, "threads", "native")
    return row


def _episode(env: Any, actions: np.ndarray, copies: int) -> Callable[[], float]:
    """Return a block: a whole episode of every copy, and the resets after it."""
    for i in range(env.num_envs):
        env.env_method("set_task", i // copies, _GOAL, indices=[i])
    env.reset()

    def block() -> float:
        started = time.perf_counter()
        for action in actions:
            env.step(action)
        return actions.shape[0] * actions.shape[1] / (time.perf_counter() - started)

    return block


def _physics(tasks: Sequence[str], copies: int, actions: np.ndarray) -> Callable[[], float]:
    """Return a block: the same episodes, of which only what MuJoCo computes."""
    import mujoco
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    from mtrl.env.metaworld import goal_set, metaworld_task
    from mtrl.env.native import mujoco_c
    from mtrl.env.native.kernel import simulate

    envs = []
    for task in tasks:
        for _ in range(copies):
            env = ALL_V3_ENVIRONMENTS[task]()
            env.set_task(metaworld_task(task, goal_set(task, _SEED)[_GOAL]))
            env.reset()
            envs.append(env)
    whole = mujoco.mjtState.mjSTATE_INTEGRATION
    starts, inputs = [], []
    for i, env in enumerate(envs):
        start = np.empty(mujoco.mj_stateSize(env.model, whole))
        mujoco.mj_getState(env.model, env.data, start, whole)
        starts.append(start)
        inputs.append(_inputs(env, actions[:, i]))
        env.data.mocap_quat[0] = (1, 0, 1, 0)
    hands, fingers = (np.ascontiguousarray(np.stack(values, axis=1)) for values in zip(*inputs, strict=True))
    addresses = np.array(
        [
            (env.model._address, env.data._address, env.data.mocap_pos.ctypes.data, env.data.ctrl.ctypes.data)
            for env in envs
        ]
    )
    functions = mujoco_c.function_addresses()

    def block() -> float:
        for env, start in zip(envs, starts, strict=True):
            mujoco.mj_setState(env.model, env.data, start, whole)
        started = time.perf_counter()
        simulate(addresses, hands, fingers, *functions)
        return actions.shape[0] * actions.shape[1] / (time.perf_counter() - started)

    return block


def _inputs(env: Any, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the hand is dragged to, ``(steps, 3)``, and the fingers' forces, ``(steps, 2)``."""
    hand, hands = env.data.mocap_pos[0].copy(), []
    for action in actions:
        hand = np.clip(hand + action[:3] * env.action_scale, env.mocap_low, env.mocap_high)
        hands.append(hand)
    return np.array(hands), np.stack([actions[:, 3], -actions[:, 3]], axis=1).astype(np.float64)
