"""The environments that a configuration trains and evaluates on."""

from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from mtrl.config import Config
from mtrl.env.factory import choose_backend, make_vec_env
from mtrl.env.finite import RefuseNonFinite
from mtrl.env.normalize import TaskNormalize
from mtrl.hardware import Hardware


def make_training_env(cfg: Config, chosen: Hardware, done: int = 0) -> VecEnv:
    """Return the environments that ``cfg`` trains on after ``done`` steps, normalised where it says so."""
    tasks, copies = cfg.env.tasks, cfg.env.copies_per_task
    if cfg.curriculum.copies is not None:
        # The curriculum hands out the tasks; what a copy is made with does not matter.
        copies = [len(range(task, cfg.n_envs, len(tasks))) for task in range(len(tasks))]
    env = make_vec_env(tasks, copies, **_env_arguments(cfg, chosen), goals="train")
    if cfg.env.normalize_observations or cfg.env.normalize_reward:
        # Statistics must not take in what the replay buffer would refuse afterwards.
        env = RefuseNonFinite(env, done)
        observations, reward = cfg.env.normalize_observations, cfg.env.normalize_reward
        env = TaskNormalize(env, observations=observations, reward=reward, gamma=cfg.algo.gamma)
    return env


def make_evaluation_env(
    cfg: Config, chosen: Hardware, goals: str | None = None, tasks: Sequence[str] | None = None
) -> VecEnv:
    """Return the environments that ``cfg`` is evaluated on: never normalised, never ended by success.

    Args:
        cfg: The run.
        chosen: What it uses of the machine.
        goals: "train" or "heldout" instead of those of ``cfg``.
        tasks: Other tasks than those of ``cfg``; observations then have their one-hot in any case.
    """
    arguments = _env_arguments(cfg, chosen) | {"terminate_on_success": False}
    if tasks is not None:
        backend = choose_backend("auto", tasks, cfg.env.reward) if chosen.backend == "native" else "stock"
        arguments |= {"task_id": True, "backend": backend}
    copies = min(cfg.evaluation.copies_per_task, cfg.evaluation.final_episodes)
    return make_vec_env(tasks or cfg.env.tasks, copies, **arguments, goals=goals or cfg.evaluation.goals)


def _env_arguments(cfg: Config, chosen: Hardware) -> dict[str, Any]:
    return {
        "seed": cfg.seed,
        "backend": chosen.backend,
        "horizon": cfg.env.horizon,
        "reward": cfg.env.reward,
        "terminate_on_success": cfg.env.terminate_on_success,
        "task_id": cfg.variant.task_id,
        "workers": chosen.workers,
        "threads": chosen.threads,
    }
