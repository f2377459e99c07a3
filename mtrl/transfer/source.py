"""What a transfer starts from: read without unpickling anything, and refused unless it is whole."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mtrl.checkpoint.model import read_normaliser, read_weights
from mtrl.config.types import Config
from mtrl.errors import ConfigurationError, DamagedError, RunError
from mtrl.rundir.models import ModelFiles, content, find_model, read_lineage, saved_step
from mtrl.rundir.run import Run
from mtrl.tasks import OBSERVATION_SIZE, check_tasks
from mtrl.transfer.mapping import State, moments_problem, parts_of, read_network


@dataclass(frozen=True, slots=True)
class Source:
    """The weights of another run and where they come from."""

    name: str
    """What to call it in a refusal."""
    files: ModelFiles
    tasks: tuple[str, ...]
    """In the order of its one-hot; empty for a zip without one."""
    policy: dict[str, torch.Tensor]
    """The policy's ``state_dict``."""
    optimisers: dict[str, dict[str, Any]]
    """The ``state_dict`` of each optimiser, by its name in the agent."""
    log_temperature: torch.Tensor | None
    """Logarithms of the temperatures, (1,) or (tasks,); None where none is learned."""
    normaliser: dict[str, np.ndarray] | None
    """Statistics of observations and returns; None where nothing was normalised."""
    algorithm: str | None
    """Dotted path of the class that trained it, where a run directory says so."""
    reward: str | None
    """Meta-World's reward version that it was trained on, where a run directory says so."""
    step: int | None
    """Environment steps it was trained for."""
    content: str
    """SHA-256 of the model."""
    lineage: dict[str, Any] | None
    """What its own weights began with."""

    @property
    def normalised(self) -> bool:
        """Whether its networks saw normalised observations."""
        return self.normaliser is not None and bool(self.normaliser["norm_obs"])


def read_source(cfg: Config) -> Source:
    """Return what ``transfer.source`` names, every value of it checked.

    Raises:
        ConfigurationError: There is no model there, or none that can be placed, in one sentence.
    """
    key = f"transfer.source={cfg.transfer.source}"
    files = find_model(str(cfg.transfer.source))
    try:
        parameters, variables = read_weights(files.model)
        policy = parameters.pop("policy", {})
        _check_policy(policy)
        normaliser = None if files.normaliser is None else read_normaliser(files.normaliser)
        log_temperature = _log_temperature(variables.get("log_ent_coef"))
        if "optimiser" in cfg.transfer.parts:
            _check_optimisers(parameters, policy)
    except DamagedError as error:
        raise ConfigurationError(f"{key} is damaged ({error}): name another checkpoint") from error
    run = _run_of(files)
    env, algo = _section(run, "env"), _section(run, "algo")
    tasks = _tasks(key, cfg, policy, env)
    if log_temperature is not None and len(log_temperature) not in (1, len(tasks)):
        raise ConfigurationError(
            f"{key} has {len(log_temperature)} temperatures for {len(tasks)} tasks: name another checkpoint"
        )
    return Source(
        name=f"the source ({cfg.transfer.source})",
        files=files,
        tasks=tasks,
        policy=policy,
        optimisers=parameters,
        log_temperature=log_temperature,
        normaliser=normaliser,
        algorithm=algo.get("cls"),
        reward=env.get("reward"),
        step=saved_step(files),
        content=content(files),
        lineage=None if run is None else read_lineage(run.path),
    )


def _check_policy(weights: dict[str, Any]) -> None:
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
        if not _is_network(weights, part):
            raise DamagedError(
                f"its {part} is no network that mtrl knows, or its layers do not fit each other"
            )


def _is_network(weights: State, part: str) -> bool:
    """Tell whether mtrl can read a network, and each of its layers takes what the one below it gives."""
    try:
        network = read_network(weights, part)
        width = network.inputs
        for layer in network.layers:
            _, heads, inputs, outputs = layer.weight.shape
            if inputs != width or layer.bias.shape != (1, heads, 1, outputs):
                return False
            width = outputs
        pairs = zip(network.norms, network.widths, strict=bool(network.norms))
        return all(norm.weight.shape[2:] == norm.bias.shape[2:] == (1, width) for norm, width in pairs)
    except (KeyError, IndexError, ValueError, RuntimeError):
        return False


def _log_temperature(value: object) -> torch.Tensor | None:
    if value is None:
        return None
    if not torch.is_tensor(value) or value.ndim != 1 or not bool(torch.isfinite(value).all()):
        raise DamagedError("its temperature is no number")
    return value.detach()


def _check_optimisers(optimisers: dict[str, dict[str, Any]], policy: State) -> None:
    for part in ("actor", "critic"):
        given = optimisers.get(f"{part}.optimizer")
        problem = None if given is None else moments_problem(given, policy, part)
        if problem is not None:
            raise DamagedError(f"the optimiser of its {part} {problem}")


def _run_of(files: ModelFiles) -> Run | None:
    if files.run is None:
        return None
    try:
        return Run(files.run)
    except RunError as error:
        raise ConfigurationError(f"transfer.source: {error}; name another run, or its model.zip") from error


def _section(run: Run | None, name: str) -> dict[str, Any]:
    """Return a section of the run's configuration; empty for a zip without one."""
    if run is None:
        return {}
    found = run.config.get(name)
    if not isinstance(found, dict) or not all(
        isinstance(found.get(key), str | None) for key in ("cls", "reward")
    ):
        raise ConfigurationError(
            f"transfer.source: the config.yaml of {run.path} is damaged, for its {name} is no section of a "
            "run: name another run, or its model.zip"
        )
    return found


def _tasks(key: str, cfg: Config, policy: State, env: dict[str, Any]) -> tuple[str, ...]:
    """Return the source's tasks, as its run says or as ``transfer.source_tasks`` does for a zip without one."""
    named = cfg.transfer.source_tasks
    tasks = env.get("tasks", named) if env else named
    try:
        if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
            raise ValueError("they are no list of names")
        if env or tasks:
            check_tasks(tasks)
    except ValueError as error:
        raise ConfigurationError(f"{key} has tasks that no run has ({error}): name another run") from error
    if env and named and named != tasks:
        raise ConfigurationError(
            f"transfer.source_tasks={named} contradicts the source, whose run was trained on {tasks}: leave it out"
        )
    inputs = read_network(policy, "actor").inputs
    if inputs < OBSERVATION_SIZE:
        raise ConfigurationError(
            f"{key} observes {inputs} numbers and Meta-World gives {OBSERVATION_SIZE}: it was trained on another "
            "observation"
        )
    one_hot = inputs - OBSERVATION_SIZE
    if one_hot and len(tasks) != one_hot:
        raise ConfigurationError(
            f"{key} observes a one-hot of {one_hot} tasks and {len(tasks)} are named: "
            "name them in their order with transfer.source_tasks=[...]"
        )
    return tuple(tasks)
