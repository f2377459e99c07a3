"""The evaluations of one run: measured, written down, and the best model kept."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from mtrl.checkpoint import save_model
from mtrl.config import Config
from mtrl.environments import make_evaluation_env
from mtrl.evaluation import COLUMNS, Act, Evaluation, TaskResult, evaluate
from mtrl.hardware import Hardware
from mtrl.recorder import Recorder
from mtrl.records import CsvLog
from mtrl.signals import Signals

logger = logging.getLogger(__name__)


class Examiner:
    """Evaluates the policy that is being trained, on environments of its own.

    Args:
        cfg: The run's configuration.
        chosen: What it uses of the machine.
        directory: Where it is written down.
        signals: An evaluation ends, without a trace, when a signal comes.
    """

    def __init__(self, cfg: Config, chosen: Hardware, directory: Recorder, signals: Signals) -> None:
        self.cfg, self.chosen, self.signals = cfg, chosen, signals
        self.log = CsvLog(directory.path / "evaluation.csv", COLUMNS)
        self.best = (-1.0, -np.inf)
        self.latest: Evaluation | None = None
        self.latest_at = (-1, 0)
        """Step and episodes per task of the latest evaluation."""
        self._best_path = directory.checkpoints / "best"
        self._envs: dict[str, VecEnv] = {}

    def examine(self, model: OffPolicyAlgorithm, episodes: int) -> Evaluation:
        """Evaluate ``model``, write it down, and keep it if it is the best so far.

        Raises:
            Preempted: A signal came.
        """
        tasks, goals, step = self.cfg.env.tasks, self.cfg.evaluation.goals, model.num_timesteps
        result = evaluate(self._act(model), self._env(goals), tasks, episodes, goals)
        self.latest, self.latest_at = result, (step, episodes)
        rows = [
            {"step": step, **{name: getattr(row, name) for name in COLUMNS[1:]}} for row in result.results
        ]
        self.log.append(rows)
        if result.score > self.best:
            try:
                save_model(self._best_path, model, step=step, score=result.score)
                self.best = result.score
            except OSError as error:
                # The score stays, so that the next good model is tried again.
                logger.warning("step %d: the best model could not be saved (%s)", step, error)
        return result

    def success_rates(
        self, model: OffPolicyAlgorithm, tasks: Sequence[int], episodes: int
    ) -> dict[int, float]:
        """Return the success rate of some tasks, by id, on the goals that the run trains on.

        Raises:
            Preempted: A signal came.
        """
        names = self.cfg.env.tasks
        result = evaluate(self._act(model), self._env("train"), names, episodes, "train", only=tasks)
        return {names.index(row.task): row.success_rate for row in result.results}

    def _act(self, model: OffPolicyAlgorithm) -> Act:
        normalizer = model.get_vec_normalize_env()

        def act(obs: NDArray[np.float32]) -> NDArray[np.float32]:
            self.signals.check()
            seen = obs if normalizer is None else normalizer.normalize_obs(obs)
            return model.predict(seen, deterministic=True)[0]

        return act

    def _env(self, goals: str) -> VecEnv:
        if goals not in self._envs:
            self._envs[goals] = make_evaluation_env(self.cfg, self.chosen, goals)
        return self._envs[goals]

    def get_state(self) -> dict[str, Any]:
        """Return what later evaluations depend on, and the length of the log."""
        latest = [asdict(row) for row in self.latest.results] if self.latest else None
        return {
            "best": list(self.best),
            "latest": latest,
            "latest_at": list(self.latest_at),
            "log": self.log.size,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called; the log loses the rows it was given since."""
        success, mean_return = state["best"]
        self.best = (success, mean_return)
        latest = state["latest"]
        self.latest = None if latest is None else Evaluation(tuple(TaskResult(**row) for row in latest))
        step, episodes = state["latest_at"]
        self.latest_at = (step, episodes)
        self.log.cut(state["log"])

    def close(self) -> None:
        """Release the environments."""
        for env in self._envs.values():
            env.close()
