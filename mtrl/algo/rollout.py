"""Collecting transitions while the learner updates."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from mtrl.algo.finite import check_finite
from mtrl.errors import TrainingNotFiniteError


@cache
def acting_from_the_start(algorithm: type[OffPolicyAlgorithm]) -> type[OffPolicyAlgorithm]:
    """Return ``algorithm`` for a policy that can act already: it acts from the first step on.

    stable-baselines3 draws random actions until ``learning_starts``, which here only says when updates begin.
    """

    class ActingFromTheStart(algorithm):
        def _sample_action(self, learning_starts: int, *args: Any, **kwargs: Any) -> Any:
            return super()._sample_action(0, *args, **kwargs)

    return ActingFromTheStart


class WorkWhileStepping(VecEnvWrapper):
    """Calls ``work`` while the environments step: between ``step_async`` and ``step_wait`` of every vector step."""

    def __init__(self, venv: VecEnv, work: Callable[[], None]) -> None:
        super().__init__(venv)
        self.work = work

    def reset(self) -> VecEnvObs:
        """Reset the environments."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Work, then wait for the environments."""
        self.work()
        return self.venv.step_wait()


class OverlappedRollouts(OffPolicyAlgorithm):
    """Adds ``overlap`` to an off-policy algorithm, and refuses actions that are NaN or infinite.

    With overlap, the updates that stable-baselines3 would make after a rollout are made during the first
    vector step of the next one, after its actions were chosen. The transitions of that step are not in the
    buffer yet, so the order of everything is fixed. How many updates are due follows from ``num_timesteps``
    alone, so a checkpoint between two rollouts needs no note of them; only the very last rollout has no updates
    after it.

    Subclasses implement ``make_updates`` instead of ``train``.
    """

    overlap: bool = False
    learning_seconds: float = 0.0
    """Seconds spent in updates so far, which overlap hides inside the steps of the environments."""
    _learning: bool = False
    _updates_due: int = 0
    _working_env: WorkWhileStepping | None = None

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.overlap and self.train_freq.unit is not TrainFrequencyUnit.STEP:
            raise ValueError("overlap needs train_freq in steps, not in episodes")

    def learn(self, *args: Any, **kwargs: Any) -> "OverlappedRollouts":
        """Train as stable-baselines3's ``learn`` does; the arguments are the same."""
        self._learning = True
        try:
            return super().learn(*args, **kwargs)
        finally:
            self._learning = False

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Make ``gradient_steps`` updates, which an overlapping ``learn`` leaves to its next vector step."""
        if not (self.overlap and self._learning):
            self._timed_updates(gradient_steps, batch_size)

    def make_updates(self, gradient_steps: int, batch_size: int) -> None:
        """Make ``gradient_steps`` updates from batches of ``batch_size``."""
        raise NotImplementedError

    def _timed_updates(self, gradient_steps: int, batch_size: int) -> None:
        started = time.perf_counter()
        self.make_updates(gradient_steps, batch_size)
        self.learning_seconds += time.perf_counter() - started

    def collect_rollouts(self, env: VecEnv, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Collect as stable-baselines3 does; with ``overlap``, the first step hides the due updates."""
        if not self.overlap:
            return super().collect_rollouts(env, *args, **kwargs)
        if self._working_env is None or self._working_env.venv is not env:
            self._working_env = WorkWhileStepping(env, self._make_due_updates)
        if self.num_timesteps > max(self.learning_starts, 0):
            per_rollout = self.train_freq.frequency * env.num_envs
            self._updates_due = self.gradient_steps if self.gradient_steps >= 0 else per_rollout
        return super().collect_rollouts(self._working_env, *args, **kwargs)

    def _make_due_updates(self) -> None:
        due, self._updates_due = self._updates_due, 0
        if due:
            self._timed_updates(due, self.batch_size)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        action, buffer_action = super()._sample_action(learning_starts, action_noise, n_envs)
        if not np.isfinite(action).all():
            check_finite(self)
            copy = int(np.argmin(np.isfinite(action).all(axis=1)))
            task = int(self.replay_buffer.playing[copy])
            raise TrainingNotFiniteError(
                f"action of copy {copy}", self.num_timesteps, [task] if task >= 0 else []
            )
        return action, buffer_action

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_working_env", "_learning", "learning_seconds"]
