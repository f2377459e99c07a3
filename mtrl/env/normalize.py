"""Running normalisation of observations and rewards: the one-hot is left alone, nothing is pickled."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from mtrl.tasks import OBSERVATION_SIZE


class _Moments(RunningMeanStd):
    """Running mean and variance whose columns from ``OBSERVATION_SIZE`` on stay at 0 and 1."""

    def update_from_moments(self, batch_mean: NDArray, batch_var: NDArray, batch_count: float) -> None:
        super().update_from_moments(batch_mean, batch_var, batch_count)
        self.mean[OBSERVATION_SIZE:], self.var[OBSERVATION_SIZE:] = 0.0, 1.0


class TaskNormalize(VecNormalize):
    """``VecNormalize`` over the 39 columns of Meta-World's observation; the one-hot after them passes through.

    ``reward`` divides rewards by the running deviation of the return discounted by ``gamma``.
    """

    def __init__(self, venv: VecEnv, *, observations: bool, reward: bool, gamma: float) -> None:
        super().__init__(venv, norm_obs=observations, norm_reward=reward, gamma=gamma)
        self._moments = {"return": self.ret_rms}
        if observations:
            self.obs_rms = _Moments(shape=venv.observation_space.shape)
            self._moments = {"observation": self.obs_rms, **self._moments}

    def statistics(self) -> dict[str, NDArray]:
        """Return everything that later steps depend on."""
        state = {"returns": np.array(self.returns)}
        for name, moments in self._moments.items():
            for part in ("mean", "var", "count"):
                state[f"{name}_{part}"] = np.array(getattr(moments, part))
        return state

    def restore(self, state: Mapping[str, NDArray]) -> None:
        """Continue exactly where ``statistics`` was called."""
        self.returns = np.array(state["returns"])
        for name, moments in self._moments.items():
            moments.mean, moments.var = np.array(state[f"{name}_mean"]), np.array(state[f"{name}_var"])
            moments.count = float(state[f"{name}_count"])

    def save_statistics(self, path: Path) -> None:
        """Write the statistics to an ``.npz`` file, from which ``Normaliser`` is made."""
        names = ("norm_obs", "norm_reward", "clip_obs", "epsilon")
        np.savez(path, **self.statistics(), **{name: getattr(self, name) for name in names})


class Normaliser:
    """Saved statistics, as ``read_normaliser`` returns them, applied to observations outside training."""

    def __init__(self, state: Mapping[str, NDArray]) -> None:
        self._active = bool(state["norm_obs"])
        if self._active:
            self._mean = state["observation_mean"]
            self._deviation = np.sqrt(state["observation_var"] + state["epsilon"])
            self._clip = float(state["clip_obs"])

    def __call__(self, obs: NDArray) -> NDArray:
        """Return ``obs`` (..., obs_dim) normalised."""
        if not self._active:
            return obs
        return np.clip((obs - self._mean) / self._deviation, -self._clip, self._clip).astype(np.float32)
