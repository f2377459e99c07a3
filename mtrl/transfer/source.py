"""What a transfer starts from: read without unpickling anything, and refused if it is damaged."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mtrl.checkpoint.model import read_normaliser, read_weights
from mtrl.config.types import Config, require
from mtrl.errors import ConfigurationError, DamagedError, RefusedError
from mtrl.rundir.checkpoints import Checkpoint, verify
from mtrl.rundir.models import NORMALISER, ModelFiles, content, find_model, step_checkpoints
from mtrl.rundir.run import Run
from mtrl.tasks import OBSERVATION_SIZE, check_tasks
from mtrl.transfer.mapping import State, parts_of, read_network

logger = logging.getLogger(__name__)

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Adam's moments, as it names them."""


@dataclass(frozen=True, slots=True)
class Source:
    """The weights of another run and where they come from."""

    files: ModelFiles
    sha256: str
    """Of the model, and of the normalisation beside it."""
    tasks: tuple[str, ...]
    """In the order of its one-hot; empty for a zip without one."""
    algorithm: str | None
    """Dotted path of the class that trained it, and Meta-World's reward version, where a run directory says so."""
    reward: str | None
    policy: State
    """The policy's ``state_dict``."""
    optimisers: dict[str, tuple[Any, list[State]]]
    """Of actor and critic, where taken over and begun: Adam's steps, its ``MOMENTS`` by the names of the weights."""
    log_temperature: torch.Tensor | None
    """Logarithms of the temperatures, (1,) or (tasks,); None where none is learned."""
    normaliser: dict[str, np.ndarray] | None
    """Statistics of observations and returns; None where nothing was normalised."""
    transitions: Checkpoint | None
    """Whose transitions are taken over; None where they are not asked for."""

    @property
    def normalised(self) -> bool:
        """Whether its networks saw normalised observations."""
        return self.normaliser is not None and bool(self.normaliser["norm_obs"])


def read_source(cfg: Config) -> Source:
    """Return what ``transfer.source`` names, every value of it checked.

    Raises:
        ConfigurationError: There is no model there, or none that can be placed, in one sentence.
    """
    key, wanted = f"transfer.source={cfg.transfer.source}", cfg.transfer
    files, facts = find_model(str(wanted.source)), (tuple(wanted.source_tasks), None, None)
    try:
        sha256 = content(files)
        parameters, variables = read_weights(files.model)
        policy = parameters.pop("policy", {})
        _check_policy(policy)
        normaliser = None if files.normaliser is None else read_normaliser(files.normaliser)
        if files.run is not None:
            facts = _facts(Run(files.run), normaliser)
        tasks = facts[0]
        log_temperature = _log_temperature(variables.get("log_ent_coef"), len(tasks))
        optimisers = {}
        for part in ("actor", "critic"):
            state = parameters.get(f"{part}.optimizer", {"state": {}}).get("state")
            if {part, "optimiser"} <= set(wanted.parts) and state != {}:
                optimisers[part] = _optimiser(state, policy, part)
        require(content(files) == sha256, "it has changed while it was read")
    except (RefusedError, OSError) as error:
        raise ConfigurationError(
            f"{key} is damaged ({error}): name another run or checkpoint, or its model.zip"
        ) from error
    require(
        wanted.source_tasks in ([], list(tasks)),
        f"transfer.source_tasks={wanted.source_tasks} contradicts the source, whose run was trained on "
        f"{list(tasks)}: leave it out",
    )
    if files.run is None and any(files.model.parent.glob("*vecnormalize*.pkl")):
        logger.warning("%s saw observations that VecNormalize changed, and its statistics are not read", key)
    require(
        "actor.log_std" not in policy,
        f"{key} explored by state (use_sde), and no policy here has such an actor: name a model trained without it",
    )
    one_hot = read_network(policy, "actor").inputs - OBSERVATION_SIZE
    require(
        one_hot >= 0,
        f"{key} observes {OBSERVATION_SIZE + one_hot} numbers and Meta-World gives {OBSERVATION_SIZE}: it was "
        "trained on another observation",
    )
    require(
        one_hot in (0, len(tasks)),
        f"{key} observes a one-hot of {one_hot} tasks and {len(tasks)} are named: "
        "name them in their order with transfer.source_tasks=[...]",
    )
    transitions = _find_transitions(files) if "replay" in wanted.parts else None
    return Source(files, sha256, *facts, policy, optimisers, log_temperature, normaliser, transitions)


def _check_policy(weights: dict[str, Any]) -> None:
    """Refuse what is none of SAC's, TD3's or DDPG's policies, or holds NaN or infinity."""
    for key, value in weights.items():
        known = torch.is_tensor(value) and value.is_floating_point()
        require(known, f"the weight {key} is not a table of numbers")
        require(bool(torch.isfinite(value).all()), f"the weight {key} is NaN or infinite")
    parts = parts_of(weights)
    unknown = "it has networks that mtrl does not know, and not those of SAC, TD3 or DDPG"
    require({"actor", "critic"} <= set(parts), unknown)
    for part in parts:
        try:
            network = read_network(weights, part)
            width = network.inputs
            for layer in network.layers:
                _, heads, inputs, outputs = layer.weight.shape
                if inputs != width or layer.bias.shape != (1, heads, 1, outputs):
                    raise ValueError
                width = outputs
            below = network.layers[:-1] if network.norms else []
            for norm, layer in zip(network.norms, below, strict=True):
                if not norm.weight.shape == norm.bias.shape == layer.bias.shape:
                    raise ValueError
        except (KeyError, IndexError, ValueError, RuntimeError) as error:
            problem = "is no network that mtrl knows, or its layers do not fit each other"
            raise DamagedError(f"its {part} {problem}") from error


def _facts(
    run: Run, normaliser: dict[str, np.ndarray] | None
) -> tuple[tuple[str, ...], str | None, str | None]:
    """Return the tasks of a run, the class that trained it, and its reward."""
    for name, key in (("env", "reward"), ("algo", "cls")):
        found = run.config.get(name)
        known = isinstance(found, dict) and isinstance(found.get(key), str | None)
        require(known, f"in the config.yaml of {run.path} the section {name} is not a run's")
    env, algo = run.config["env"], run.config["algo"]
    tasks = env.get("tasks")
    normalised = env.get("normalize_observations") is True or env.get("normalize_reward") is True
    require(
        not normalised or normaliser is not None, f"{NORMALISER} is missing, which its config.yaml asks for"
    )
    require(isinstance(tasks, list), "no run has its tasks: they are no list of names")
    check_tasks(tasks, "its config.yaml")
    return tuple(tasks), algo.get("cls"), env.get("reward")


def _log_temperature(value: object, n_tasks: int) -> torch.Tensor | None:
    if value is None:
        return None
    known = torch.is_tensor(value) and value.ndim == 1 and bool(torch.isfinite(value).all())
    require(known, "its temperature is no number")
    require(len(value) in (1, n_tasks), f"it has {len(value)} temperatures for {n_tasks} tasks")
    return value.detach()


def _optimiser(state: object, policy: State, part: str) -> tuple[Any, list[State]]:
    """Return Adam's steps and moments of ``part``, whose weights ``policy`` has in the order of its parameters."""
    names = [name for name in policy if name.startswith(f"{part}.")]
    for place, name in enumerate(names):
        entry, what = (
            state.get(place) if isinstance(state, dict) else None,
            f"the optimiser of its {part} has",
        )
        values = [entry.get(key) for key in ("step", *MOMENTS)] if isinstance(entry, dict) else [None]
        known = all(isinstance(value, float | int) or torch.is_tensor(value) for value in values)
        require(known, f"{what} not Adam's moments of {name}")
        step, *moments = map(torch.as_tensor, values)
        fit = step.numel() == 1 and all(moment.shape == policy[name].shape for moment in moments)
        require(fit, f"{what} moments of another shape than {name}")
        finite = all(bool(torch.isfinite(value).all()) for value in (step, *moments))
        require(finite, f"{what} moments of {name} that are NaN or infinite")
    moments = [{name: state[place][key] for place, name in enumerate(names)} for key in MOMENTS]
    return state[0]["step"], moments


def _find_transitions(files: ModelFiles) -> Checkpoint:
    """Return the checkpoint whose transitions belong to a source: its own, or the newest of its run."""
    asked, run, own = "transfer.parts asks for the replay", files.run, files.model.parent
    require(run is not None, f"{asked}, which a mere model does not have: name a run directory as source")
    checkpoints = step_checkpoints(run)
    require(bool(checkpoints), f"{asked} and {run} has no checkpoint with one: leave replay out")
    try:
        return verify(own if own in checkpoints else checkpoints[-1])
    except DamagedError as error:
        raise ConfigurationError(f"the replay of {run} is damaged ({error}): leave replay out") from error
