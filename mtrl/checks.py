"""Checks across the keys of a configuration, each with its mend. Only what needs torch imports it."""

import importlib
import inspect
import json
import tempfile
from pathlib import Path
from typing import Any

from mtrl import hardware
from mtrl.config import Config, ConfigurationError, MultiheadConfig, SACConfig
from mtrl.sources import source_content
from mtrl.stages import stages_of
from mtrl.tasks import ACTION_SIZE, OBSERVATION_SIZE, check_seed, check_tasks
from mtrl.tracker import check_tracker

OWN_SAC = "mtrl.algo.SAC"
_OWN_OPTIONS: dict[str, Any] = {
    "temperature": "shared",
    "balanced_batches": False,
    "max_gradient_norm": None,
    "reward_scaling": "none",
    "reward_scale": 1.0,
    "max_reward_ratio": 30.0,
    "reward_scales_every": 500,
    "adam_epsilon": 1e-8,
    "overlap": False,
}
_BUILT_IN = (OWN_SAC, "stable_baselines3.SAC", "stable_baselines3.TD3", "stable_baselines3.DDPG")


def check(cfg: Config) -> None:
    """Raise ConfigurationError, in one sentence, if ``cfg`` cannot run on this machine."""
    _check_tasks(cfg)
    _check_algorithm(cfg)
    _check_batches(cfg)
    _check_variant(cfg)
    stages_of(cfg)
    _check_transfer(cfg)
    _check_memory(cfg)
    _check_output(Path(cfg.output))
    check_tracker(cfg.logging.wandb)
    _check_backend(cfg)
    if cfg.hardware.device.startswith("cuda") and not hardware.cuda_available(cfg.hardware.device):
        raise ConfigurationError(
            f"hardware.device={cfg.hardware.device} is not there: torch sees no such GPU; "
            "use hardware=auto or cpu"
        )


def _check_tasks(cfg: Config) -> None:
    tasks = cfg.env.tasks
    try:
        check_tasks(tasks if cfg.task is None or cfg.task in tasks else [cfg.task, *tasks])
        check_seed(cfg.seed)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if cfg.task is not None and tasks != [cfg.task]:
        raise ConfigurationError(
            f"task={cfg.task} names one task and env.tasks of experiment={cfg.experiment} says otherwise: "
            "use experiment=mt1 for one task, or task=null env.tasks=[...] for a set of your own"
        )


def _check_transfer(cfg: Config) -> None:
    transfer = cfg.transfer
    if transfer.source_tasks:
        try:
            check_tasks(transfer.source_tasks, "transfer.source_tasks")
        except ValueError as error:
            raise ConfigurationError(f"transfer.source_tasks: {error}") from error
    if transfer.source is not None:
        source_content(cfg)
    frozen = [f"transfer.freeze_steps.{part}" for part, steps in transfer.freeze_steps.items() if steps]
    compiled = cfg.algo.cls == OWN_SAC and frozen and transfer.active
    if compiled and hardware.compilation(cfg.hardware.compile, hardware.device(cfg.hardware)) != "off":
        raise ConfigurationError(
            f"{frozen[0]} cannot be kept by a compiled update, which fixes once for all what it does: "
            "use hardware.compile=off"
        )


def _check_backend(cfg: Config) -> None:
    if cfg.hardware.backend != "native":
        return
    keys = {"backend_key": "hardware.backend", "reward_key": "env.reward"}
    try:
        hardware.require_native(cfg.env.tasks, cfg.env.reward, **keys)
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
            f"algo.batch_size={algo.batch_size} is larger than algo.buffer_size={algo.buffer_size}: "
            "make it smaller"
        )
    if isinstance(algo, SACConfig) and algo.cls != OWN_SAC:
        used = {key: neutral for key, neutral in _OWN_OPTIONS.items() if getattr(algo, key) != neutral}
        if used:
            said = ", ".join(f"algo.{key}={_written(getattr(algo, key))}" for key in used)
            mend = " ".join(f"algo.{key}={_written(neutral)}" for key, neutral in used.items())
            raise ConfigurationError(
                f"only {OWN_SAC} has {said}, which algo.cls={algo.cls} would not do: set {mend}"
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
        fitting = int(cfg.algo.buffer_size * free / needed * 0.8)
        raise ConfigurationError(
            f"algo.buffer_size={cfg.algo.buffer_size} needs {needed / 2**30:.1f} GiB for its replay buffer, "
            f"and {free / 2**30:.1f} GiB are free: use at most algo.buffer_size={fitting}"
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
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    if not issubclass(cls, OffPolicyAlgorithm):
        raise ConfigurationError(
            f"algo.cls={algo.cls} does not learn from a replay buffer: "
            "name a subclass of stable-baselines3's OffPolicyAlgorithm"
        )
    known = _arguments(cls)
    for key in algo.kwargs:
        if key not in known:
            raise ConfigurationError(
                f"algo.kwargs.{key} is not an argument of {algo.cls}: it takes {', '.join(known)}"
            )


def _arguments(cls: type) -> list[str]:
    """Return the names of the constructor's arguments; its bases' too where it passes ``**kwargs`` on."""
    names: list[str] = []
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        names += [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return sorted({name for name in names if name != "self" and not name.startswith("_")})


def _written(value: object) -> str:
    """Return a value as a person writes it on the command line."""
    return json.dumps(value).strip('"')


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
