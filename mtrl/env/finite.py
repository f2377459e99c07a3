"""Refuses observations and rewards that are NaN or infinite before anything learns from them."""

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from mtrl.env.arguments import NotFiniteError


class RefuseNonFinite(VecEnvWrapper):
    """Passes everything on, and raises where a number is none.

    Args:
        venv: The environments.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)

    def reset(self) -> VecEnvObs:
        """Reset the environments.

        Raises:
            NotFiniteError: An observation is NaN or infinite.
        """
        obs = self.venv.reset()
        self._check(obs, "the first observation")
        return obs

    def step_wait(self) -> VecEnvStepReturn:
        """Return the step.

        Raises:
            NotFiniteError: An observation or a reward is NaN or infinite.
        """
        obs, rewards, dones, infos = self.venv.step_wait()
        self._check(obs, "an observation")
        self._check(rewards[:, None], "the reward")
        return obs, rewards, dones, infos

    def _check(self, values: np.ndarray, what: str) -> None:
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            copy = int(np.argmin(finite))
            raise NotFiniteError(f"{what} of copy {copy} is {values[copy]}: the environment is broken")
