"""Hooks into how stable-baselines3 collects transitions."""

from collections.abc import Callable
from functools import cache
from typing import Any

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn


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
