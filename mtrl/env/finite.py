"""Refuses observations and rewards that are NaN or infinite before anything learns from them."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from mtrl.nonfinite import NonFinite


class RefuseNonFinite(VecEnvWrapper):
    """Passes everything on, and raises where a number is none.

    Args:
        venv: The environments.
        done: Environment steps that the run has made before.
    """

    def __init__(self, venv: VecEnv, done: int = 0) -> None:
        super().__init__(venv)
        self._step = done

    def reset(self) -> VecEnvObs:
        """Reset the environments.

        Raises:
            NonFinite: An observation is NaN or infinite.
        """
        obs = self.venv.reset()
        self._check({"observations": obs}, [{}] * self.num_envs)
        return obs

    def step_wait(self) -> VecEnvStepReturn:
        """Return the step.

        Raises:
            NonFinite: An observation or a reward is NaN or infinite.
        """
        obs, rewards, dones, infos = self.venv.step_wait()
        self._step += self.num_envs
        self._check({"observations": obs, "rewards": rewards[:, None]}, infos)
        return obs, rewards, dones, infos

    def _check(self, columns: dict[str, np.ndarray], infos: list[dict[str, Any]]) -> None:
        for name, values in columns.items():
            finite = np.isfinite(values).all(axis=1)
            if not finite.all():
                copy = int(np.argmin(finite))
                tasks = [infos[copy]["task_id"]] if "task_id" in infos[copy] else []
                transition = {column: each[copy] for column, each in columns.items()}
                raise NonFinite(f"{name.rstrip('s')} of copy {copy}", self._step, tasks, transition)
