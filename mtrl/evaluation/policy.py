"""A trained policy by itself: built from a run's configuration and weights, for one's own code and the commands.

Of a run directory nothing is unpickled, and no class is taken from it but mtrl's and stable-baselines3's. A zip of
stable-baselines3 without its run says only in pickled form what it is, so it is read only if it is trusted.
"""

import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file

from mtrl import __version__
from mtrl.algo.policies import build_policy
from mtrl.checkpoint.model import read_normaliser, read_weights
from mtrl.config import OPTIONS, VariantConfig
from mtrl.config.types import load_class
from mtrl.env.metaworld import action_space, observation_space
from mtrl.env.normalize import Normaliser
from mtrl.errors import ConfigurationError, DamagedError, LoadError, RunError
from mtrl.rundir.models import CHECKPOINTS, ModelFiles, find_model, saved_step
from mtrl.rundir.run import Run
from mtrl.tasks import HORIZON, OBSERVATION_SIZE, check_tasks

PACKAGES = ("mtrl.", "stable_baselines3.", "sb3_contrib.")
"""Where the class that a run names may come from."""

UNREADABLE = (ValueError, RuntimeError, KeyError, TypeError, OSError, EOFError, AttributeError, ImportError)
"""What reading a damaged or foreign file may raise, beside what pickle and zipfile do."""

_LARGEST_WIDTH = 2**14


@dataclass(frozen=True, slots=True)
class Setting:
    """What a policy was trained on; of a zip without its run as much as was said."""

    tasks: tuple[str, ...] = ()
    """The task set in the order of the one-hot; empty where nothing says."""
    seed: int | None = None
    """Decides the 50 training goals of each task."""
    horizon: int = HORIZON
    reward: str = "v2"
    goals: str = "heldout"
    """The goals of the run's own evaluation."""
    version: str | None = None
    """The version of mtrl that trained it."""

    def version_note(self, name: str) -> str | None:
        """Return that ``name`` was trained by another version of mtrl than this, None where it was not."""
        if self.version in (None, __version__):
            return None
        return f"{name} was trained by mtrl {self.version}, and this is {__version__}"


def setting_of_run(run: Run) -> Setting:
    """Return what a run was trained on.

    Raises:
        LoadError: Its configuration says what no run has.
    """
    env, evaluation = _section(run.config, "env"), _section(run.config, "evaluation")
    try:
        check_tasks(run.tasks)
    except ValueError as error:
        raise LoadError(f"{run.path} names tasks that do not exist ({error})") from error
    horizon, reward, goals = env.get("horizon", HORIZON), env.get("reward", "v2"), evaluation.get("goals")
    if not isinstance(horizon, int) or not 1 <= horizon <= HORIZON or reward not in ("v1", "v2"):
        raise LoadError(
            f"{run.path} says horizon={horizon}, reward={reward}, which no run has: its config.yaml is damaged"
        )
    version = _section(run.environment, "versions").get("mtrl-metaworld")
    return Setting(
        run.tasks,
        run.seed,
        horizon,
        reward,
        "train" if goals != "heldout" and run.seed is not None else "heldout",
        version if isinstance(version, str) else None,
    )


def build_from_run(run: Run, setting: Setting, model: Path, device: str) -> BasePolicy:
    """Return the policy that the configuration describes, with the actor's weights of ``model``.

    Raises:
        LoadError: The class is gone or none of ours, or the weights do not fit.
    """
    cls = _algorithm(run.path, _section(run.config, "algo").get("cls"))
    made_by = f"{run.path} was trained by mtrl {setting.version or 'of unknown version'}"
    mend = "load it with that version, or name another checkpoint"
    try:
        variant = _variant_of(_section(run.config, "variant"))
        space = observation_space(len(setting.tasks), variant.task_id)
        network = build_policy(cls, variant, len(setting.tasks), space, action_space()).to(device)
        weights = read_weights(model, device)[0]["policy"]
        # Critics are of no use here; a policy without an actor of its own is taken as a whole.
        actor = getattr(network, "actor", None)
        if actor is None:
            network.load_state_dict(weights)
        else:
            actor.load_state_dict(_below("actor.", weights))
    except (pickle.PickleError, zipfile.BadZipFile, *UNREADABLE) as error:
        raise LoadError(
            f"{made_by} and {model.name} does not hold its weights ({first_line(error)}): {mend}"
        ) from error
    return network


def _algorithm(path: Path, name: object) -> type[OffPolicyAlgorithm]:
    if not isinstance(name, str) or not name.startswith(PACKAGES):
        raise LoadError(
            f"{path} names the algorithm {name}, and a class is only taken from "
            f"{', '.join(package.rstrip('.') for package in PACKAGES)}: load it in code of your own"
        )
    try:
        cls = load_class(name)
    except ConfigurationError as error:
        raise LoadError(
            f"{path} was trained with {name}, which is gone: install the package or version that has it"
        ) from error
    if not issubclass(cls, OffPolicyAlgorithm):
        raise LoadError(f"{path} names the algorithm {name}, which is none: its config.yaml is damaged")
    return cls


def _variant_of(values: Mapping[str, Any]) -> VariantConfig:
    """Return the variant that a run's configuration names; keys that older versions lack have their defaults."""
    cls = OPTIONS["variant"][values["name"]]
    defaults = {"layer_norm": False, "initialisation": "torch", "shared_layers": "all", "actor_heads": False}
    values = {field.name: values.get(field.name, defaults.get(field.name)) for field in fields(cls)}
    for key in ("actor_layers", "critic_layers"):
        if not all(isinstance(width, int) and width <= _LARGEST_WIDTH for width in values[key]):
            raise ValueError(f"variant.{key} is {values[key]}")
    return cls(**values)


def build_from_zip(files: ModelFiles, trust: bool, device: str) -> BasePolicy:
    """Return the policy that a zip describes; unpickles it.

    Raises:
        LoadError: It is not trusted, or cannot be built.
    """
    if not trust:
        raise LoadError(
            f"{files.model} lies in no run directory, and what it says of itself is pickled, which can run "
            "any program: give --trust (in Python trust=True) if you know where it comes from"
        )
    try:
        data, parameters, _ = load_from_zip_file(files.model, device=device)
        if data is None:
            raise ValueError("it holds no description")
        arguments = {key: data[key] for key in ("observation_space", "action_space")}
        network = data["policy_class"](
            **arguments, lr_schedule=_no_learning, **(data.get("policy_kwargs") or {})
        ).to(device)
        network.load_state_dict(parameters["policy"])
    except (pickle.PickleError, zipfile.BadZipFile, *UNREADABLE) as error:
        raise LoadError(
            f"{files.model} cannot be built ({first_line(error)}): install the packages it was saved with"
        ) from error
    box = network.observation_space
    if not isinstance(box, spaces.Box) or len(box.shape) != 1 or box.shape[0] < OBSERVATION_SIZE:
        raise LoadError(f"{files.model} observes {box}, which no Meta-World task gives: name another model")
    return network


def setting_of_zip(
    source: str | Path, network: BasePolicy, tasks: Sequence[str], seed: int | None
) -> Setting:
    """Return what a zip was trained on, as far as the caller says.

    Raises:
        LoadError: The tasks do not exist, or are not those of its one-hot.
    """
    one_hot = network.observation_space.shape[0] - OBSERVATION_SIZE
    if tasks:
        try:
            check_tasks(tasks)
        except ValueError as error:
            raise LoadError(str(error)) from error
        if one_hot not in (0, len(tasks)):
            raise LoadError(
                f"{source} observes a one-hot of {one_hot} tasks and {len(tasks)} are named: "
                "name all of them, in its order"
            )
    return Setting(tuple(tasks), seed, goals="heldout" if seed is None else "train")


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return dict(found) if isinstance(found, dict) else {}


def _below(prefix: str, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _no_learning(_: float) -> float:
    return 0.0


def first_line(error: BaseException) -> str:
    """Return what an error says in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch names the module first and what is wrong with it on the lines below.
    return (lines[1] if len(lines) > 1 and lines[0].endswith(":") else (lines or [type(error).__name__])[0])[
        :200
    ]


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
