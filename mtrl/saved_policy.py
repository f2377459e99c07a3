"""What a saved policy was trained on, and its networks: of a run without unpickling, of a zip if it is trusted."""

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file

from mtrl import __version__
from mtrl.algorithm import load_class
from mtrl.checkpoint.model import read_weights
from mtrl.config import ConfigurationError
from mtrl.env.stock import action_space, observation_space
from mtrl.rundir import Run
from mtrl.sources import ModelFiles
from mtrl.tasks import HORIZON, OBSERVATION_SIZE, check_tasks
from mtrl.variant import policy_for

PACKAGES = ("mtrl.", "stable_baselines3.", "sb3_contrib.")
"""Where the class that a run names may come from."""

UNREADABLE = (ValueError, RuntimeError, KeyError, TypeError, OSError, EOFError, AttributeError, ImportError)
"""What reading a damaged or foreign file may raise, beside what pickle and zipfile do."""

_LARGEST_WIDTH = 2**14


class LoadError(ValueError):
    """There is no policy to be had; the message is one sentence for the user."""


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
    algo, variant = _section(run.config, "algo"), _section(run.config, "variant")
    cls = _algorithm(run.path, algo.get("cls"))
    made_by = f"{run.path} was trained by mtrl {setting.version or 'of unknown version'}"
    mend = "load it with that version, or name another checkpoint"
    try:
        policy, kwargs = _policy_of(cls, variant, len(setting.tasks))
        kwargs |= _section(_section(algo, "kwargs"), "policy_kwargs")
        policy = cls.policy_aliases[policy] if isinstance(policy, str) else policy
        space = observation_space(len(setting.tasks), variant.get("name") != "plain")
        network = policy(space, action_space(), _no_learning, **kwargs).to(device)
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


def _policy_of(
    cls: type[OffPolicyAlgorithm], variant: Mapping[str, Any], n_tasks: int
) -> tuple[type[BasePolicy] | str, dict[str, Any]]:
    layers = {key: variant[key] for key in ("actor_layers", "critic_layers")}
    for key, widths in layers.items():
        if not widths or not all(isinstance(width, int) and 0 < width <= _LARGEST_WIDTH for width in widths):
            raise ValueError(f"variant.{key} is {widths}")
    return policy_for(
        cls,
        variant["name"],
        n_tasks,
        **layers,
        layer_norm=bool(variant.get("layer_norm", False)),
        initialisation=str(variant.get("initialisation", "torch")),
        shared_layers=variant.get("shared_layers"),
        actor_heads=bool(variant.get("actor_heads", False)),
    )


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
