"""What a transfer starts from, read without unpickling anything."""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.save_util import load_from_zip_file

from mtrl.config import Config, ConfigurationError
from mtrl.rundir import Run, RunError
from mtrl.sources import ModelFiles, content, find_model
from mtrl.tasks import OBSERVATION_SIZE
from mtrl.transfer.layout import parts_of, read_network
from mtrl.transfer.mapping import Side


@dataclass(frozen=True, slots=True)
class Source:
    """The weights of another run and where they come from."""

    files: ModelFiles
    side: Side
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


def read_source(cfg: Config) -> Source:
    """Return what ``transfer.source`` names.

    Raises:
        ConfigurationError: There is no model there, or none that can be placed, in one sentence.
    """
    name = str(cfg.transfer.source)
    files = find_model(name)
    try:
        _, parameters, variables = load_from_zip_file(files.model, device="cpu", load_data=False)
    except (pickle.PickleError, ValueError, RuntimeError, KeyError, OSError, EOFError) as error:
        raise ConfigurationError(
            f"transfer.source={name} cannot be read ({str(error).splitlines()[0]}): name another checkpoint"
        ) from error
    policy = parameters["policy"]
    if "actor" not in parts_of(policy) or not read_network(policy, "actor").layers:
        raise ConfigurationError(
            f"transfer.source={name} has networks that mtrl does not know: "
            "name a model of SAC, TD3 or DDPG with an MlpPolicy"
        )
    config, status = _run_of(files)
    log_temperature = (variables or {}).get("log_ent_coef")
    return Source(
        files,
        _side(name, cfg, policy, config),
        policy,
        {key: value for key, value in parameters.items() if key != "policy"},
        log_temperature.detach() if log_temperature is not None else None,
        _normaliser(files),
        (config.get("algo") or {}).get("cls"),
        (config.get("env") or {}).get("reward"),
        _trained_steps(files),
        content(files),
        status.get("transfer"),
    )


def _run_of(files: ModelFiles) -> tuple[dict[str, Any], dict[str, Any]]:
    if files.run is None:
        return {}, {}
    try:
        run = Run(files.run)
    except RunError as error:
        raise ConfigurationError(f"transfer.source: {error}; name another run, or its model.zip") from error
    return run.config, run.status


def _side(name: str, cfg: Config, policy: dict[str, torch.Tensor], config: dict[str, Any]) -> Side:
    """Return the source's tasks, as its run says or as ``transfer.source_tasks`` does for a mere zip."""
    one_hot = read_network(policy, "actor").layers[0].weight.shape[1] - OBSERVATION_SIZE
    env = config.get("env") or {}
    tasks = tuple(env.get("tasks") or cfg.transfer.source_tasks)
    if one_hot < 0:
        raise ConfigurationError(
            f"transfer.source={name} observes {one_hot + OBSERVATION_SIZE} numbers and Meta-World gives "
            f"{OBSERVATION_SIZE}: it was trained on another observation"
        )
    if one_hot and len(tasks) != one_hot:
        raise ConfigurationError(
            f"transfer.source={name} observes a one-hot of {one_hot} tasks and {len(tasks)} are named: "
            "name them in their order with transfer.source_tasks=[...]"
        )
    return Side(f"the source ({name})", tasks, task_id=one_hot > 0)


def _normaliser(files: ModelFiles) -> dict[str, np.ndarray] | None:
    if files.normaliser is None:
        return None
    try:
        with np.load(files.normaliser, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError) as error:
        raise ConfigurationError(
            f"{files.normaliser} cannot be read ({error}): name another checkpoint in transfer.source"
        ) from error


def _trained_steps(files: ModelFiles) -> int | None:
    score = files.model.parent / "score.json"
    if not score.is_file():
        return None
    step = _json(score).get("step")
    return step if isinstance(step, int) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigurationError(f"{path} cannot be read ({error}): name another checkpoint") from error
    return content if isinstance(content, dict) else {}
