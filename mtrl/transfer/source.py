"""What a transfer starts from: read without unpickling anything, and refused if it is damaged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mtrl.checkpoint.model import read_normaliser, read_weights
from mtrl.config.types import Config, require
from mtrl.errors import ConfigurationError, DamagedError, UnreadableRunError
from mtrl.rundir.models import ModelFiles, find_model
from mtrl.rundir.run import Run
from mtrl.tasks import OBSERVATION_SIZE, check_tasks
from mtrl.transfer.mapping import State, parts_of, read_network

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Adam's moments, as it names them."""


@dataclass(frozen=True, slots=True)
class Source:
    """The weights of another run and where they come from."""

    files: ModelFiles
    tasks: tuple[str, ...]
    """In the order of its one-hot; empty for a zip without one."""
    policy: State
    """The policy's ``state_dict``."""
    optimisers: dict[str, tuple[Any, list[State]]]
    """Of actor and critic, where asked for and begun: Adam's steps, and its ``MOMENTS`` by the names of the weights."""
    log_temperature: torch.Tensor | None
    """Logarithms of the temperatures, (1,) or (tasks,); None where none is learned."""
    normaliser: dict[str, np.ndarray] | None
    """Statistics of observations and returns; None where nothing was normalised."""
    algorithm: str | None
    """Dotted path of the class that trained it, where a run directory says so."""
    reward: str | None
    """Meta-World's reward version that it was trained on, where a run directory says so."""

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
    files = find_model(str(wanted.source))
    try:
        parameters, variables = read_weights(files.model)
        policy = parameters.pop("policy", {})
        _check_policy(policy)
        normaliser = None if files.normaliser is None else read_normaliser(files.normaliser)
        env, algo, tasks = {}, {}, tuple(wanted.source_tasks)
        if files.run is not None:
            run = Run(files.run)
            env, algo = _section(run, "env"), _section(run, "algo")
            tasks = _tasks(env.get("tasks"))
        log_temperature = _log_temperature(variables.get("log_ent_coef"), len(tasks))
        optimisers = {}
        for part in ("actor", "critic") if "optimiser" in wanted.parts else ():
            state = parameters.get(f"{part}.optimizer", {"state": {}}).get("state")
            if state != {}:
                optimisers[part] = _optimiser(state, policy, part)
    except (DamagedError, UnreadableRunError) as error:
        raise ConfigurationError(
            f"{key} is damaged ({error}): name another run or checkpoint, or its model.zip"
        ) from error
    require(
        wanted.source_tasks in ([], list(tasks)),
        f"transfer.source_tasks={wanted.source_tasks} contradicts the source, whose run was trained on "
        f"{list(tasks)}: leave it out",
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
    facts = algo.get("cls"), env.get("reward")
    return Source(files, tasks, policy, optimisers, log_temperature, normaliser, *facts)


def _check_policy(weights: Mapping[str, Any]) -> None:
    """Refuse what is none of SAC's, TD3's or DDPG's policies, or holds NaN or infinity."""
    for key, value in weights.items():
        if not torch.is_tensor(value) or not value.is_floating_point():
            raise DamagedError(f"the weight {key} is not a table of numbers")
        if not bool(torch.isfinite(value).all()):
            raise DamagedError(f"the weight {key} is NaN or infinite")
    parts = parts_of(weights)
    if not {"actor", "critic"} <= set(parts):
        raise DamagedError("it has networks that mtrl does not know, and not those of SAC, TD3 or DDPG")
    for part in parts:
        try:
            _check_widths(weights, part)
        except (KeyError, IndexError, ValueError, RuntimeError) as error:
            raise DamagedError(
                f"its {part} is no network that mtrl knows, or its layers do not fit each other"
            ) from error


def _check_widths(weights: State, part: str) -> None:
    """Raise ValueError, or what reading raises, unless each layer takes what the one below it gives."""
    network = read_network(weights, part)
    width = network.inputs
    for layer in network.layers:
        _, heads, inputs, outputs = layer.weight.shape
        if inputs != width or layer.bias.shape != (1, heads, 1, outputs):
            raise ValueError
        width = outputs
    for norm, width in zip(network.norms, network.widths, strict=bool(network.norms)):
        if not norm.weight.shape[2:] == norm.bias.shape[2:] == (1, width):
            raise ValueError


def _section(run: Run, name: str) -> dict[str, Any]:
    found = run.config.get(name)
    if not isinstance(found, dict) or not all(
        isinstance(found.get(key), str | None) for key in ("cls", "reward")
    ):
        raise DamagedError(f"in the config.yaml of {run.path} the section {name} is not a run's")
    return found


def _tasks(names: object) -> tuple[str, ...]:
    try:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("they are no list of names")
        check_tasks(names)
    except ValueError as error:
        raise DamagedError(f"no run has its tasks: {error}") from error
    return tuple(names)


def _log_temperature(value: object, n_tasks: int) -> torch.Tensor | None:
    if value is None:
        return None
    if not torch.is_tensor(value) or value.ndim != 1 or not bool(torch.isfinite(value).all()):
        raise DamagedError("its temperature is no number")
    if len(value) not in (1, n_tasks):
        raise DamagedError(f"it has {len(value)} temperatures for {n_tasks} tasks")
    return value.detach()


def _optimiser(state: object, policy: State, part: str) -> tuple[Any, list[State]]:
    """Return Adam's steps and moments of ``part``, whose weights ``policy`` has in the order of its parameters."""
    names = [name for name in policy if name.startswith(f"{part}.")]
    for place, name in enumerate(names):
        entry = state.get(place) if isinstance(state, dict) else None
        values = [entry.get(key) for key in ("step", *MOMENTS)] if isinstance(entry, dict) else [None]
        if not all(isinstance(value, float | int) or torch.is_tensor(value) for value in values):
            raise DamagedError(f"the optimiser of its {part} has not Adam's moments of {name}")
        step, *moments = map(torch.as_tensor, values)
        if step.numel() != 1 or any(moment.shape != policy[name].shape for moment in moments):
            raise DamagedError(f"the optimiser of its {part} has moments of another shape than {name}")
        if not all(bool(torch.isfinite(value).all()) for value in (step, *moments)):
            raise DamagedError(f"the optimiser of its {part} has moments of {name} that are NaN or infinite")
    moments = [{name: state[place][key] for place, name in enumerate(names)} for key in MOMENTS]
    return state[0]["step"], moments
