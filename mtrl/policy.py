"""A trained policy by itself: built from a run's configuration and weights, for one's own code and the commands.

Of a run directory nothing is unpickled, and no class is taken from it but mtrl's and stable-baselines3's. A zip of
stable-baselines3 without its run says only in pickled form what it is, so it is read only if it is trusted.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy

from mtrl.checkpoint import DamagedError
from mtrl.checkpoint.model import read_normaliser
from mtrl.config import ConfigurationError
from mtrl.env.normalize import Normaliser
from mtrl.rundir import Run, RunError
from mtrl.saved_policy import (
    LoadError,
    Setting,
    build_from_run,
    build_from_zip,
    setting_of_run,
    setting_of_zip,
)
from mtrl.sources import CHECKPOINTS, ModelFiles, find_model, saved_step
from mtrl.tasks import OBSERVATION_SIZE

__all__ = ["LoadError", "Policy", "Setting", "load", "read_policy"]


class Policy:
    """A trained policy that acts; see ``load``.

    Args:
        network: Policy of stable-baselines3's interface.
        setting: What it was trained on.
        model: The file it was read from.
        normalise: How observations were normalised, None where they were not.
        step: Environment steps it was trained for, None where nothing says.
    """

    def __init__(
        self,
        network: BasePolicy,
        setting: Setting,
        model: Path,
        normalise: Normaliser | None = None,
        step: int | None = None,
    ) -> None:
        self.network, self.setting, self.model, self.step = network, setting, model, step
        self._normalise = normalise
        self._obs_dim = int(network.observation_space.shape[0])

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task set in the order of the one-hot; empty where nothing says."""
        return self.setting.tasks

    @property
    def task_id(self) -> bool:
        """Whether observations end with the task's one-hot."""
        return self._obs_dim > OBSERVATION_SIZE

    def predict(
        self,
        obs: NDArray[np.floating],
        state: tuple[NDArray, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], tuple[NDArray, ...] | None]:
        """Return actions in -1 .. 1 and ``state``, as stable-baselines3's ``predict`` does.

        Args:
            obs: ``(obs_dim,)`` or ``(n_envs, obs_dim)``, as the environments give them: not normalised.
            state: Passed on; the policy has no memory.
            episode_start: Not used, for the same reason.
            deterministic: Take the mean instead of a sample.

        Returns:
            Actions ``(4,)`` or ``(n_envs, 4)``, and ``state``.

        Raises:
            ValueError: Observations of another size.
        """
        obs = np.asarray(obs, dtype=np.float32)
        if obs.ndim not in (1, 2) or obs.shape[-1] != self._obs_dim:
            raise ValueError(
                f"observations of shape {obs.shape} do not fit this policy: give (n_envs, {self._obs_dim}), "
                f"{OBSERVATION_SIZE} numbers of Meta-World and a one-hot of {self._obs_dim - OBSERVATION_SIZE}"
            )
        if self._normalise is not None:
            obs = self._normalise(obs)
        actions, _ = self.network.predict(obs, deterministic=deterministic)
        return actions, state


def load(
    source: str | Path,
    checkpoint: str = "best",
    *,
    trust: bool = False,
    tasks: Sequence[str] = (),
    seed: int | None = None,
    device: str = "cpu",
) -> Policy:
    """Return the policy of a run directory, a checkpoint, or a zip of stable-baselines3.

    A run of another version of mtrl is loaded with a warning.

    Args:
        source: Where it is.
        checkpoint: Of a run directory, "best", which its own evaluations have chosen, or "last".
        trust: Unpickle a zip that lies in no run directory; pickled data can run any program.
        tasks: Of such a zip the tasks in the order of its one-hot; a run knows its own.
        seed: Of such a zip the seed of its training goals.
        device: Where the networks live.

    Raises:
        LoadError: There is no policy there, or none that can be built, in one sentence.
    """
    policy = read_policy(source, checkpoint, trust=trust, tasks=tasks, seed=seed, device=device)
    note = policy.setting.version_note(str(source))
    if note is not None:
        warnings.warn(note, stacklevel=2)
    return policy


def read_policy(
    source: str | Path,
    checkpoint: str = "best",
    *,
    trust: bool = False,
    tasks: Sequence[str] = (),
    seed: int | None = None,
    device: str = "cpu",
) -> Policy:
    """Return what ``load`` does, for those who tell of another version in their own way.

    Raises:
        LoadError: There is no policy there, or none that can be built, in one sentence.
    """
    if checkpoint not in CHECKPOINTS:
        raise LoadError(f"checkpoint={checkpoint} is not one of {', '.join(CHECKPOINTS)}")
    try:
        files = find_model(str(source), key="", checkpoint=checkpoint)
        if files.run is None:
            network = build_from_zip(files, trust, device)
            setting = setting_of_zip(source, network, tasks, seed)
        else:
            run = Run(files.run)
            setting = setting_of_run(run)
            network = build_from_run(run, setting, files.model, device)
    except (ConfigurationError, RunError) as error:
        raise LoadError(str(error)) from error
    if not all(torch.isfinite(values).all() for values in network.state_dict().values()):
        raise LoadError(f"{files.model} holds weights that are no numbers: name an earlier checkpoint")
    network.set_training_mode(False)
    return Policy(network, setting, files.model, _normaliser(files), _step(files))


def _normaliser(files: ModelFiles) -> Normaliser | None:
    if files.normaliser is None:
        return None
    try:
        return Normaliser(read_normaliser(files.normaliser))
    except DamagedError as error:
        raise LoadError(f"{files.normaliser} cannot be read ({error}): name another checkpoint") from error


def _step(files: ModelFiles) -> int | None:
    try:
        return saved_step(files)
    except ConfigurationError:
        # It is only shown; the policy acts without it.
        return None
