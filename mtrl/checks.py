"""Checks across the keys of a configuration, each with its mend. Torch is imported only where it alone can tell."""

import importlib
import inspect
import tempfile
from pathlib import Path
from typing import Any

from mtrl import hardware
from mtrl.config import Config, ConfigurationError, MultiheadConfig, SACConfig
from mtrl.tasks import ACTION_SIZE, OBSERVATION_SIZE, check_tasks

OWN_SAC = "mtrl.algo.SAC"
_OWN_OPTIONS: dict[str, Any] = {
    "temperature": "shared",
    "balanced_batches": False,
    "max_gradient_norm": None,
    "reward_scaling": "none",
    "reward_scale": 1.0,
    "overlap": False,
}
_BUILT_IN = (OWN_SAC, "stable_baselines3.SAC", "stable_baselines3.TD3", "stable_baselines3.DDPG")


def check(cfg: Config) -> None:
    """Raise ConfigurationError, in one sentence, if ``cfg`` cannot run on this machine."""
    _check_tasks(cfg)
    _check_batches(cfg)
    _check_variant(cfg)
    _check_memory(cfg)
    _check_output(Path(cfg.output))
    _check_algorithm(cfg)
    if cfg.hardware.device.startswith("cuda") and not hardware.cuda_available(cfg.hardware.device):
        raise ConfigurationError(
            f"hardware.device={cfg.hardware.device} is not there: torch sees no such GPU; use hardware=auto or cpu"
        )


def _check_tasks(cfg: Config) -> None:
    tasks = cfg.env.tasks
    if cfg.task is not None and tasks != [cfg.task]:
        raise ConfigurationError(
            f"task={cfg.task} is for recipes of one task and experiment={cfg.experiment} trains {len(tasks)}: "
            "use experiment=mt1, or name the set with task=null env.tasks=[...]"
        )
    try:
        check_tasks(tasks)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def _check_batches(cfg: Config) -> None:
    algo, n_tasks = cfg.algo, len(cfg.env.tasks)
    if isinstance(algo, SACConfig) and algo.balanced_batches and algo.batch_size % n_tasks:
        fitting = max(1, round(algo.batch_size / n_tasks)) * n_tasks
        raise ConfigurationError(
            f"algo.batch_size={algo.batch_size} cannot be divided among {n_tasks} tasks: "
            f"use algo.batch_size={fitting} or algo.balanced_batches=false"
        )
    if algo.batch_size > algo.buffer_size:
        raise ConfigurationError(
            f"algo.batch_size={algo.batch_size} is larger than algo.buffer_size={algo.buffer_size}: make it smaller"
        )
    if isinstance(algo, SACConfig) and algo.cls != OWN_SAC:
        for key, neutral in _OWN_OPTIONS.items():
            if getattr(algo, key) != neutral:
                raise ConfigurationError(
                    f"algo.{key}={getattr(algo, key)} is an option of {OWN_SAC}, which algo.cls={algo.cls} lacks: "
                    f"leave it at {neutral}"
                )


def _check_variant(cfg: Config) -> None:
    if isinstance(cfg.variant, MultiheadConfig):
        if len(cfg.env.tasks) < 2:
            raise ConfigurationError(
                "variant=multihead needs more than one task, for it has a critic per task: use variant=shared"
            )
        if cfg.algo.cls not in _BUILT_IN:
            raise ConfigurationError(
                f"variant=multihead has no networks for algo.cls={cfg.algo.cls}: use variant=shared"
            )


def replay_bytes(cfg: Config) -> int:
    """Return the bytes of a full replay buffer: two observations, action, reward, three flags, in float32."""
    observation = OBSERVATION_SIZE + (len(cfg.env.tasks) if cfg.variant.task_id else 0)
    return cfg.algo.buffer_size * 4 * (2 * observation + ACTION_SIZE + 4)


def _check_memory(cfg: Config) -> None:
    needed, free = replay_bytes(cfg), hardware.free_memory()
    if needed > free:
        raise ConfigurationError(
            f"algo.buffer_size={cfg.algo.buffer_size} needs {needed / 2**30:.1f} GiB for the replay buffer and "
            f"{free / 2**30:.1f} GiB are free: use at most algo.buffer_size={int(cfg.algo.buffer_size * free / needed * 0.8)}"
        )


def _check_output(output: Path) -> None:
    existing = output.absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        # Nothing stays behind; asking for permissions alone tells nothing of a read-only file system.
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise ConfigurationError(
            f"output={output} cannot be written ({error.strerror}): name a directory that can with output=..."
        ) from error


def _check_algorithm(cfg: Config) -> None:
    algo = cfg.algo
    if algo.cls in _BUILT_IN and not algo.kwargs:
        return
    cls = load_class(algo.cls)
    parameters = inspect.signature(cls).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in algo.kwargs:
        if key not in parameters:
            raise ConfigurationError(
                f"algo.kwargs.{key} is not an argument of {algo.cls}: it takes {', '.join(parameters)}"
            )


def load_class(path: str) -> type:
    """Return the class at a dotted path.

    Raises:
        ConfigurationError: There is none.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"algo.cls={path} does not exist ({error}): name a class such as stable_baselines3.SAC"
        ) from error
    if not isinstance(found, type):
        raise ConfigurationError(f"algo.cls={path} is not a class: name one such as stable_baselines3.SAC")
    return found
