"""What a transfer starts from: read without unpickling anything, and refused if it is damaged."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mtrl.checkpoint.model import read_normaliser, read_weights
from mtrl.config.types import Config
from mtrl.errors import ConfigurationError, DamagedError, UnreadableRunError
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
    key, wanted = f"transfer.source={cfg.transfer.source}", cfg.transfer
    files = find_model(str(wanted.source))
    try:
        parameters, variables = read_weights(files.model)
        policy = parameters.pop("policy", {})
        _check_policy(policy)
        normaliser = None if files.normaliser is None else read_normaliser(files.normaliser)
        run = None if files.run is None else Run(files.run)
        env, algo = (_section(run, name) for name in ("env", "algo"))
        tasks = _tasks(env.get("tasks", wanted.source_tasks), needed=run is not None)
        log_temperature = _log_temperature(variables.get("log_ent_coef"), len(tasks))
        for part in ("actor", "critic") if "optimiser" in wanted.parts else ():
            problem = moments_problem(parameters.get(f"{part}.optimizer", {"state": {}}), policy, part)
            if problem is not None:
                raise DamagedError(f"the optimiser of its {part} {problem}")
    except (DamagedError, UnreadableRunError) as error:
        raise ConfigurationError(
            f"{key} is damaged ({error}): name another run or checkpoint, or its model.zip"
        ) from error
    if run is not None and wanted.source_tasks not in ([], list(tasks)):
        raise ConfigurationError(
            f"transfer.source_tasks={wanted.source_tasks} contradicts the source, whose run was trained on "
            f"{list(tasks)}: leave it out"
        )
    one_hot = read_network(policy, "actor").inputs - OBSERVATION_SIZE
    if one_hot < 0:
        raise ConfigurationError(
            f"{key} observes {OBSERVATION_SIZE + one_hot} numbers and Meta-World gives {OBSERVATION_SIZE}: it was "
            "trained on another observation"
        )
    if one_hot and len(tasks) != one_hot:
        raise ConfigurationError(
            f"{key} observes a one-hot of {one_hot} tasks and {len(tasks)} are named: "
            "name them in their order with transfer.source_tasks=[...]"
        )
    return Source(
        name=f"the source ({wanted.source})",
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
    """Return whether mtrl can read a network, and each of its layers takes what the one below it gives."""
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


def _section(run: Run | None, name: str) -> dict[str, Any]:
    """Return a section of the run's configuration; empty for a zip without one."""
    if run is None:
        return {}
    found = run.config.get(name)
    texts = ("cls", "reward")
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str | None) for key in texts):
        raise DamagedError(f"in the config.yaml of {run.path} the section {name} is not a run's")
    return found


def _tasks(names: object, *, needed: bool) -> tuple[str, ...]:
    try:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("they are no list of names")
        if needed or names:
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
