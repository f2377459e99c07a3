"""How well a transferred policy still does what its source did."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.config import Config
from mtrl.environments import make_evaluation_env
from mtrl.evaluation import evaluate
from mtrl.hardware import Hardware
from mtrl.tasks import OBSERVATION_SIZE


def source_success(
    cfg: Config,
    chosen: Hardware,
    agent: OffPolicyAlgorithm,
    lineage: Mapping[str, Any],
    check: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Return the success rate of ``agent`` on each task of its source.

    A task that the run does not have is played with the one-hot of the first task that began as that one; a
    task that none began as is left out. ``check`` is called at every step and may raise.
    """
    asked = {task: _stand_in(task, cfg.env.tasks, lineage["origins"]) for task in lineage["tasks"]}
    played = {task: place for task, place in asked.items() if place is not None}
    if not played:
        return {}
    names, places = list(played), np.array(list(played.values()))
    one_hots = np.eye(len(cfg.env.tasks), dtype=np.float32)
    normalizer = agent.get_vec_normalize_env()

    def act(obs: NDArray[np.float32]) -> NDArray[np.float32]:
        check()
        seen = obs[:, :OBSERVATION_SIZE]
        if cfg.variant.task_id:
            seen = np.concatenate([seen, one_hots[places[obs[:, OBSERVATION_SIZE:].argmax(1)]]], axis=1)
        if normalizer is not None:
            seen = normalizer.normalize_obs(seen)
        return agent.predict(seen, deterministic=True)[0]

    env = make_evaluation_env(cfg, chosen, tasks=names)
    try:
        result = evaluate(act, env, names, cfg.evaluation.final_episodes, cfg.evaluation.goals)
    finally:
        env.close()
    return {row.task: row.success_rate for row in result.results}


def _stand_in(task: str, tasks: list[str], origins: Mapping[str, str]) -> int | None:
    """Return the id of the run's task as which to play ``task``."""
    if task in tasks:
        return tasks.index(task)
    return next((place for place, name in enumerate(tasks) if origins[name] == task), None)
