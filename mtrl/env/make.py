"""The environments that a configuration trains and evaluates on."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from mtrl.config.types import Config, HardwareConfig
from mtrl.env import native
from mtrl.env.finite import RefuseNonFinite
from mtrl.env.metaworld import StockEnv, StockVecEnv, goal_set, whole
from mtrl.env.normalize import TaskNormalize
from mtrl.env.workers import WorkerVecEnv
from mtrl.errors import ConfigurationError
from mtrl.hardware import available_cores, require_native
from mtrl.tasks import HELD_OUT_SEED, HORIZON, check_seed, check_tasks

logger = logging.getLogger(__name__)


def make_vec_env(
    tasks: Sequence[str],
    copies_per_task: int | Sequence[int] = 1,
    *,
    seed: int = 0,
    backend: Literal["auto", "stock", "native"] = "auto",
    goals: Literal["train", "heldout"] = "train",
    horizon: int = HORIZON,
    reward: Literal["v1", "v2"] = "v2",
    terminate_on_success: bool = False,
    task_id: bool = True,
    workers: int | None = None,
    threads: int | None = None,
    render_mode: str | None = None,
) -> VecEnv:
    """Return Meta-World tasks as one stable-baselines3 ``VecEnv`` (contract: ``mtrl.env``).

    Copies are ordered by task: with two copies a task, copies 0 and 1 play task 0, copies 2 and 3 task 1.

    Args:
        tasks: Names such as "reach-v3"; the place of a task in this list is its id.
        copies_per_task: Copies of every task, or one number per task.
        seed: Decides the 50 training goals of each task and in which order each copy meets them; not
            1,000,003, which makes the held-out ones.
        backend: "stock" is Meta-World's own classes; "native" the compiled step (the v2 reward of all tasks, v1 of
            MT10's, same numbers); "auto" takes native wherever it can.
        goals: "train" (the 50 of ``seed``) or "heldout" (50 others, the same whatever the seed).
        horizon: Length of an episode in environment steps, 1 to 500.
        reward: Meta-World's reward version.
        terminate_on_success: End episodes at success.
        task_id: Append the one-hot of the task to the observation.
        workers: Processes of the stock backend; three quarters of the cores by default, 1 is this process.
        threads: Threads of the native backend; all cores by default.
        render_mode: "rgb_array" to render.

    Raises:
        ValueError: A task, count, seed, horizon, reward or render mode that does not exist, or a native backend
            that is not available.
    """
    check_tasks(tasks)
    copies = _copies_of(copies_per_task, len(tasks))
    seed, horizon = whole("seed", seed), whole("horizon", horizon)
    check_seed(seed)
    if not 1 <= horizon <= HORIZON:
        raise ValueError(
            f"horizon={horizon} must lie in 1..{HORIZON}: Meta-World ends an episode at {HORIZON}"
        )
    if reward not in ("v1", "v2"):
        raise ValueError(f"reward={reward!r} must be v1 or v2: Meta-World would silently train on v1")
    for name, value, known in (
        ("goals", goals, ("train", "heldout")),
        ("backend", backend, ("auto", "stock", "native")),
        ("render_mode", render_mode, (None, "rgb_array")),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(map(str, known))}")
    # Three quarters of the cores that this process may use are left to workers.
    workers = max(1, int(available_cores() * 0.75)) if workers is None else whole("workers", workers, 1)
    threads = available_cores() if threads is None else whole("threads", threads, 1)

    assignment = [task for task, count in enumerate(copies) for _ in range(count)]
    sets = [goal_set(task, seed if goals == "train" else HELD_OUT_SEED) for task in tasks]
    options = {"horizon": horizon, "terminate_on_success": terminate_on_success}
    options |= {"task_id": task_id, "render_mode": render_mode}
    if choose_backend(backend, tasks, reward) == "native":
        from mtrl.env.native.vec_env import NativeVecEnv

        return NativeVecEnv(tasks, assignment, sets, seed=seed, reward=reward, threads=threads, **options)
    make_envs = [
        partial(StockEnv, tuple(tasks), sets, task=task, seed=seed + copy, reward=reward, **options)
        for copy, task in enumerate(assignment)
    ]
    if min(workers, len(make_envs)) == 1:
        return StockVecEnv(make_envs)
    names = [f"copy {copy} ({tasks[task]})" for copy, task in enumerate(assignment)]
    return WorkerVecEnv(make_envs, min(workers, len(make_envs)), names=names, tasks=tasks)


def _copies_of(value: Any, n_tasks: int) -> list[int]:
    """Return the number of copies of each task, given as one number or as one a task."""
    numbers = list(value) if isinstance(value, Sequence | np.ndarray) else [value] * n_tasks
    try:
        copies = [whole("copies_per_task", number, 0) for number in numbers]
    except ValueError:
        copies = []
    if len(copies) != n_tasks or sum(copies) < 1:
        raise ValueError(f"copies_per_task={value} must give each of {n_tasks} tasks a count")
    return copies


def choose_backend(backend: str, tasks: Sequence[str], reward: str) -> Literal["stock", "native"]:
    """Return the backend to use: native wherever it is available.

    Raises:
        ConfigurationError: "native" was asked for and is not available.
    """
    if backend == "stock":
        return "stock"
    try:
        require_native(tasks, reward)
        reason = native.unavailable() or native.lacking(tasks, reward)
    except ConfigurationError:
        if backend == "native":
            raise
        reason = f"they do not have the {reward} reward of all of these tasks"
    if reason is None:
        return "native"
    if backend == "native":
        raise ConfigurationError(f"the native backend cannot be used: {reason}")
    logger.warning("native environments are not used, Meta-World's own are (slower): %s", reason)
    return "stock"


def make_training_env(cfg: Config, machine: HardwareConfig, steps_done: int = 0) -> VecEnv:
    """Return the environments that ``cfg`` trains on after ``steps_done`` steps, normalised where it says so."""
    tasks, copies = cfg.env.tasks, cfg.env.copies_per_task
    if cfg.curriculum.copies is not None:
        # The curriculum hands out the tasks; what a copy is made with does not matter.
        copies = [len(range(task, cfg.n_envs, len(tasks))) for task in range(len(tasks))]
    env = RefuseNonFinite(
        make_vec_env(tasks, copies, **_env_arguments(cfg, machine), goals="train"), steps_done
    )
    observations, reward = cfg.env.normalize_observations, cfg.env.normalize_reward
    if not (observations or reward):
        return env
    return TaskNormalize(env, observations=observations, reward=reward, gamma=cfg.algo.gamma)


def make_evaluation_env(
    cfg: Config, machine: HardwareConfig, goals: str | None = None, tasks: Sequence[str] | None = None
) -> VecEnv:
    """Return the environments that ``cfg`` is evaluated on: never normalised, never ended by success.

    ``goals``, "train" or "heldout", and ``tasks`` replace those of ``cfg``; observations of other tasks have their
    one-hot in any case.
    """
    protocol = {"horizon": cfg.evaluation.horizon, "terminate_on_success": False}
    arguments = _env_arguments(cfg, machine) | protocol
    if tasks is not None:
        backend = choose_backend("auto", tasks, cfg.env.reward) if machine.backend == "native" else "stock"
        arguments |= {"task_id": True, "backend": backend}
    copies = min(cfg.evaluation.copies_per_task, cfg.evaluation.final_episodes)
    return make_vec_env(tasks or cfg.env.tasks, copies, **arguments, goals=goals or cfg.evaluation.goals)


def _env_arguments(cfg: Config, machine: HardwareConfig) -> dict[str, Any]:
    arguments = {"seed": cfg.seed, "task_id": cfg.variant.task_id}
    arguments |= {name: getattr(cfg.env, name) for name in ("horizon", "reward", "terminate_on_success")}
    return arguments | {name: getattr(machine, name) for name in ("backend", "workers", "threads")}
