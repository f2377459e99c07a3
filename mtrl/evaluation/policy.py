"""A trained policy by itself: built from a run's configuration and weights, for one's own code and the commands.

Of a run directory nothing is unpickled, and no class is taken from it but mtrl's and stable-baselines3's. A zip of
stable-baselines3 without its run has only a pickled description, so it is read only if it is trusted.
"""

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file

from mtrl import __version__
from mtrl.algo.policies import build_policy
from mtrl.checkpoint.model import UNREADABLE, read_normaliser, read_weights
from mtrl.config.types import OPTIONS, load_class, require
from mtrl.env.metaworld import action_space, observation_space
from mtrl.env.normalize import Normaliser
from mtrl.errors import ConfigurationError, DamagedError, LoadError, UnreadableRunError
from mtrl.hardware import weights as least_weights
from mtrl.packages import installed
from mtrl.rundir.models import BEST, LAST, find_model, saved_step
from mtrl.rundir.run import Run
from mtrl.tasks import HORIZON, OBSERVATION_SIZE, check_tasks

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

# Where the class that a run names may come from.
_PACKAGES = ("mtrl", "stable_baselines3", "sb3_contrib")


@dataclass(eq=False, slots=True)
class Policy:
    """A trained policy that acts; see ``load``. What is unknown of a zip without its run has its default.

    ``model`` is the file it was read from, ``tasks`` stand in the order of the one-hot, ``seed`` decides the 50
    training goals of each, ``horizon`` and ``goals`` are those of its evaluations; ``version`` of mtrl
    trained it for ``step`` environment steps, and ``normalise`` is how its observations were normalised.
    """

    network: BasePolicy
    model: Path
    tasks: tuple[str, ...] = ()
    seed: int | None = None
    horizon: int = HORIZON
    reward: str = "v2"
    goals: str = "heldout"
    version: str | None = None
    normalise: Normaliser | None = None
    step: int | None = None

    @property
    def task_id_size(self) -> int:
        """Length of the one-hot at the end of its observations; 0 if they have none."""
        return int(self.network.observation_space.shape[0]) - OBSERVATION_SIZE

    def predict(
        self,
        obs: NDArray[np.floating],
        state: tuple[NDArray, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], tuple[NDArray, ...] | None]:
        """Return actions ``(4,)`` or ``(n_envs, 4)`` in -1 .. 1 and ``state``, as stable-baselines3's ``predict``.

        ``obs`` are ``(obs_dim,)`` or ``(n_envs, obs_dim)``, as the environments give them: not normalised. The policy
        has no memory, so ``state`` and ``episode_start`` are not used.

        Raises:
            ValueError: Observations of another size.
        """
        obs = np.asarray(obs, dtype=np.float32)
        (size,) = self.network.observation_space.shape
        if obs.ndim not in (1, 2) or obs.shape[-1] != size:
            raise ValueError(
                f"observations of shape {obs.shape} do not fit this policy: give (n_envs, {size}), "
                f"{OBSERVATION_SIZE} numbers of Meta-World and a one-hot of {self.task_id_size}"
            )
        if self.normalise is not None:
            obs = self.normalise(obs)
        actions, _ = self.network.predict(obs, deterministic=deterministic)
        return actions, state

    def act(self, obs: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the deterministic actions of ``predict``."""
        return self.predict(obs)[0]

    def make_env(self, copies_per_task: int, **options: Any) -> "VecEnv":
        """Return the environments of its evaluation; ``options`` are those of ``make_vec_env``."""
        from mtrl.env.make import make_vec_env

        options |= {name: getattr(self, name) for name in ("goals", "horizon", "reward")}
        task_id = self.task_id_size > 0
        return make_vec_env(self.tasks, copies_per_task, seed=self.seed or 0, task_id=task_id, **options)


def load(
    source: str | Path,
    checkpoint: str = BEST,
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
    if checkpoint not in (BEST, LAST):
        raise LoadError(f"checkpoint={checkpoint} is not one of {BEST}, {LAST}")
    try:
        files = find_model(str(source), key="", checkpoint=checkpoint)
        if files.run is None:
            policy = _of_zip(files.model, trust, tasks, seed, device)
        else:
            policy = _of_run(Run(files.run), files.model, device)
        if files.normaliser is not None:
            policy.normalise = Normaliser(read_normaliser(files.normaliser))
    except (ConfigurationError, UnreadableRunError) as error:
        raise LoadError(str(error)) from error
    except DamagedError as error:
        raise LoadError(f"{files.normaliser} cannot be read ({error}): name another checkpoint") from error
    if not all(torch.isfinite(values).all() for values in policy.network.state_dict().values()):
        raise LoadError(f"{files.model} holds weights that are NaN or infinite: name an earlier checkpoint")
    policy.network.set_training_mode(False)
    try:
        policy.act(np.zeros((1, *policy.network.observation_space.shape)))
    except UNREADABLE as error:
        raise LoadError(f"{files.model} and what lies beside it do not fit ({_first_line(error)})") from error
    # The step is only shown; the policy acts without it.
    with suppress(ConfigurationError):
        policy.step = saved_step(files)
    if policy.version not in (None, __version__):
        note = f"{source} was trained by mtrl {policy.version}, and this is {__version__}"
        warnings.warn(note, stacklevel=2)
    return policy


def _of_run(run: Run, model: Path, device: str) -> Policy:
    """Return the policy that a run's configuration describes, with the actor's weights of ``model``."""
    try:
        check_tasks(run.tasks)
    except ValueError as error:
        raise LoadError(f"{run.path} names tasks that do not exist ({error})") from error
    evaluation, values = run.section("evaluation"), run.section("variant")
    # A run of an earlier version does not name it and may have trained on shorter episodes: Meta-World's own holds.
    horizon, reward = evaluation.get("horizon", HORIZON), run.section("env").get("reward", "v2")
    if not isinstance(horizon, int) or not 1 <= horizon <= HORIZON or reward not in ("v1", "v2"):
        raise LoadError(
            f"{run.path} has horizon={horizon}, reward={reward}, which no run has: its config.yaml is damaged"
        )
    name = run.section("algo").get("cls")
    if not re.fullmatch(rf"({'|'.join(_PACKAGES)})(\.\w+){{1,9}}", str(name)):
        raise LoadError(
            f"{run.path} names the algorithm {name}, and a class is only taken from {', '.join(_PACKAGES)}: "
            "load it in code of your own"
        )
    try:
        require(name.startswith("mtrl.") or installed(name.partition(".")[0]), "it is not installed")
        algorithm = load_class(name)
    except ConfigurationError as error:
        raise LoadError(
            f"{run.path} was trained with {name}, which is gone: install the package or version that has it"
        ) from error
    if not issubclass(algorithm, OffPolicyAlgorithm):
        raise LoadError(
            f"{run.path} names the algorithm {name}, which is no algorithm: its config.yaml is damaged"
        )
    try:
        variant = OPTIONS["variant"][values["name"]]
        # What older versions did not name yet.
        old = {"layer_norm": False, "initialisation": "torch", "shared_layers": "all", "actor_heads": False}
        values = {field.name: (old | values).get(field.name) for field in fields(variant)}
        for key in ("actor_layers", "critic_layers"):
            widths = [1, *values[key], 1]
            # The file bounds what is built: a layer takes its numbers there, and more than 100 bytes for its names.
            if sum(4 * a * b + 100 for a, b in pairwise(widths)) > model.stat().st_size:
                raise ValueError(f"variant.{key} is {values[key]}")
        described, kwargs = variant(**values), run.section("algo").get("kwargs") or {}
        weights = read_weights(model, device)[0]["policy"]
        # Before anything is allocated: a configuration may claim any size, the file bounds it.
        claimed, held = sum(least_weights(described, len(run.tasks))), sum(map(torch.numel, weights.values()))
        if claimed > held:
            raise ValueError(f"its configuration has {claimed:,} weights and the file {held:,}")
        spaces_ = observation_space(len(run.tasks), variant.task_id), action_space()
        options = {"use_sde": kwargs.get("use_sde") is True}
        network = build_policy(algorithm, described, len(run.tasks), *spaces_, **options).to(device)
        # Critics are of no use here; a policy without an actor of its own is taken as a whole.
        actor = {key.removeprefix("actor."): weights[key] for key in weights if key.startswith("actor.")}
        if hasattr(network, "actor"):
            network.actor.load_state_dict(actor)
        else:
            network.load_state_dict(weights)
        if options["use_sde"]:
            network.reset_noise()
    except UNREADABLE as error:
        raise LoadError(
            f"{run.path} was trained by mtrl {run.version or 'of unknown version'} and {model.name} does not "
            f"hold its weights ({_first_line(error)}): load it with that version, or name another checkpoint"
        ) from error
    goals = "heldout" if evaluation.get("goals") == "heldout" or run.seed is None else "train"
    return Policy(network, model, run.tasks, run.seed, horizon, reward, goals, run.version)


def _of_zip(model: Path, trust: bool, tasks: Sequence[str], seed: int | None, device: str) -> Policy:
    """Return the policy that a zip describes, which is unpickled, with what the caller knows of its training."""
    if not trust:
        raise LoadError(
            f"{model} lies in no run directory, and its description is pickled, which can run any program: "
            "give --trust (in Python trust=True) if you know where it comes from"
        )
    try:
        data, parameters, _ = load_from_zip_file(model, device=device)
        if data is None:
            raise ValueError("it holds no description")
        seen, given, kwargs = data["observation_space"], data["action_space"], data.get("policy_kwargs")
        network = data["policy_class"](seen, given, lambda _: 0.0, **(kwargs or {})).to(device)
        network.load_state_dict(parameters["policy"])
    except UNREADABLE as error:
        raise LoadError(
            f"{model} cannot be built ({_first_line(error)}): install the packages it was saved with"
        ) from error
    box = network.observation_space
    if not isinstance(box, spaces.Box) or len(box.shape) != 1 or box.shape[0] < OBSERVATION_SIZE:
        raise LoadError(f"{model} observes {box}, which no Meta-World task gives: name another model")
    beside = any(model.parent.glob("*vecnormalize*.pkl"))
    if beside or _normalised(data.get("_last_obs"), data.get("_last_original_obs")):
        warnings.warn(
            f"{model} has learned from observations that VecNormalize normalised, and the statistics are not in it: "
            "what it does without them says nothing; to keep both together, train with env.normalize_observations=true",
            stacklevel=3,
        )
    policy = Policy(network, model, tuple(tasks), seed, goals="heldout" if seed is None else "train")
    if tasks:
        try:
            check_tasks(tasks)
        except ValueError as error:
            raise LoadError(str(error)) from error
        if policy.task_id_size not in (0, len(tasks)):
            raise LoadError(
                f"{model} observes a one-hot of {policy.task_id_size} tasks and {len(tasks)} are named: "
                "name all of them, in its order"
            )
    return policy


def _normalised(last: Any, original: Any) -> bool:
    """Return whether VecNormalize stood between environments and model, by the observations it saved last.

    In Meta-World's own, the second frame repeats the first one of the step before, or of the same step after a reset.
    """
    known = all(isinstance(values, np.ndarray) and values.ndim == 2 for values in (last, original))
    if not known or last.shape != original.shape or last.shape[1] < OBSERVATION_SIZE:
        return False
    repeated = [
        np.isclose(last[:, 18:36], values[:, :18], atol=1e-6).all(axis=1) for values in (last, original)
    ]
    return not np.any(repeated, axis=0).all()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    # torch names the module first and what is wrong with it on the lines below.
    return (lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0])[:200]
