"""Observations and rewards of training are checked here, before statistics, replay buffer or agent take them in."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from mtrl.errors import TrainingNotFiniteError


class RefuseNonFinite(VecEnvWrapper):
    """Passes everything on, and raises TrainingNotFiniteError where an observation or a reward is NaN or infinite.

    ``steps_before`` are the environment steps that the run has made before.
    """

    def __init__(self, venv: VecEnv, steps_before: int = 0) -> None:
        super().__init__(venv)
        self._step = steps_before
        self._before: dict[str, NDArray[Any]] = {}

    def reset(self) -> NDArray[np.float32]:
        """Reset the environments."""
        obs = self.venv.reset()
        self._check({"observation": obs}, self.reset_infos)
        self._before = {"observation": obs}
        return obs

    def step(self, actions: NDArray[np.float32]) -> VecEnvStepReturn:
        """Make a step, by the environments' own ``step``, which may be faster than its two halves."""
        self._before["action"] = actions
        return self._pass_on(self.venv.step(actions))

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Begin a step."""
        self._before["action"] = actions
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Return the step that was begun."""
        return self._pass_on(self.venv.step_wait())

    def _pass_on(self, step: VecEnvStepReturn) -> VecEnvStepReturn:
        obs, rewards, dones, infos = step
        self._step += self.num_envs
        reached = obs
        if dones.any():
            reached = obs.copy()
            for copy in np.flatnonzero(dones):
                reached[copy] = infos[copy]["terminal_observation"]
            self._check({"observation": obs}, infos)
        self._check({"observation": reached, "reward": rewards}, infos)
        self._before = {"observation": obs}
        return step

    def _check(self, columns: dict[str, NDArray[Any]], infos: list[dict[str, Any]]) -> None:
        for name, values in columns.items():
            if np.isfinite(values).all():
                continue
            finite = np.isfinite(values).reshape(self.num_envs, -1).all(axis=1)
            copy = int(np.argmin(finite))
            tasks = [infos[copy]["task_id"]] if "task_id" in infos[copy] else []
            transition = {f"{key}_before": column[copy] for key, column in self._before.items()}
            transition |= {key: column[copy] for key, column in columns.items()}
            raise TrainingNotFiniteError(f"{name} of copy {copy}", self._step, tasks, transition)
