"""What an earlier start of a run left, and whether this start may continue it. Imports neither torch nor MuJoCo."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtrl.config.types import Config, HardwareConfig, is_learned, is_noted
from mtrl.config.values import flatten
from mtrl.errors import ConfigurationError, DamagedError
from mtrl.experiment import Composition
from mtrl.hardware import cuda_available
from mtrl.rundir.checkpoints import Checkpoint, whole_checkpoints
from mtrl.rundir.environment import versions
from mtrl.rundir.read import section
from mtrl.rundir.run import Run

logger = logging.getLogger(__name__)


def read_earlier_run(path: Path) -> Run | None:
    """Return what is in a run directory, or None if no run has started there."""
    begun = any((path / name).exists() for name in ("config.yaml", "status.json", "checkpoints"))
    return Run(path, damaged=True) if begun else None


def changes_since(earlier: Run | None, composition: Composition) -> str:
    """Return how the configuration differs from the earlier start's, in words.

    ConfigurationError if a key that decides what is learned differs, or the run was evaluated at another horizon.
    """
    if earlier is None:
        return ""
    if not earlier.config:
        logger.warning("config.yaml is missing or damaged: the one in the checkpoint counts")
        return ""
    added = sorted(flatten(composition.values).keys() - flatten(earlier.config).keys())
    if added:
        logger.warning("keys that the first start did not know: %s", ", ".join(added))
    cfg = composition.config
    # Version 0.1.0 had no such key: it evaluated at the horizon of training, and curricula follow evaluations.
    if "evaluation.horizon" in added and cfg.evaluation.horizon != cfg.env.horizon:
        raise ConfigurationError(
            f"this run was evaluated at env.horizon={cfg.env.horizon} until now: add "
            f"evaluation.horizon={cfg.env.horizon} to continue it exactly, or train from scratch with fresh=true"
        )
    return _changes(earlier.config, composition.values)


def _changes(earlier: dict[str, Any], now: dict[str, Any]) -> str:
    """Return which noted keys have other values than in an earlier configuration; refuse learned ones that do.

    A key that the earlier configuration lacks was added to the project since; its value then was its default.
    """
    after = flatten(now)
    changed = [
        (key, old, after.get(key, "absent"))
        for key, old in flatten(earlier).items()
        if not key.startswith("choices.") and old != after.get(key, "absent")
    ]
    learned = ", ".join(f"{key} ({old} there, {new} now)" for key, old, new in changed if is_learned(key))
    if learned:
        raise ConfigurationError(
            f"the run directory holds another configuration: {learned}; give the earlier values, or train from "
            "scratch with fresh=true"
        )
    return ", ".join(f"{key}: {old} -> {new}" for key, old, new in changed if is_noted(key))


def find_checkpoints(path: Path, composition: Composition, status: Mapping[str, Any]) -> list[Checkpoint]:
    """Return the checkpoints of a run, which left ``status``: the newest undamaged one first, none for a run without.

    ConfigurationError if there were checkpoints and all are damaged, or it is another run's.
    """
    try:
        found = whole_checkpoints(path)
    except DamagedError as error:
        raise ConfigurationError(
            f"no checkpoint in {path} is undamaged ({error}): put back what is missing, or train from scratch "
            "with fresh=true"
        ) from error
    if not found:
        if status.get("checkpoint"):
            raise ConfigurationError(f"the checkpoints of {path} are gone: put them back, or use fresh=true")
        return []
    # It refuses a key that decides what is learned, also where config.yaml is lost.
    _changes(found[0].configuration, composition.values)
    now = versions()
    for name, version in found[0].versions.items():
        if now.get(name) != version:
            logger.warning("%s was %s at the last checkpoint and is %s now", name, version, now.get(name))
    return found


def earlier_hardware(checkpoint: Checkpoint | None, status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the hardware choices that a checkpoint was made with, as it says, or of version 0.1.0 the ``status``."""
    if checkpoint is None or checkpoint.hardware:
        return checkpoint.hardware if checkpoint else {}
    found = section(dict(status), "hardware")
    if not all(isinstance(found.get(key), str) for key in ("device", "backend")):
        logger.warning(
            "status.json is damaged, which alone says what %s was computed with: the last digits may differ",
            checkpoint.path.name,
        )
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str | int)}


def reuse_hardware(cfg: HardwareConfig, earlier: Mapping[str, Any]) -> HardwareConfig:
    """Return ``cfg`` with what it leaves open as an earlier start chose it, so that all is rounded as before.

    What is no longer there (a GPU) is chosen again.
    """
    reused: dict[str, Any] = {}
    for key, only in (("device", "cpu"), ("backend", "stock")):
        if getattr(cfg, key) == "auto" and earlier.get(key) == only:
            reused[key] = only
    device, before = reused.get("device", cfg.device), earlier.get("device")
    same = device == before or (device == "auto" and isinstance(before, str) and cuda_available(before))
    if cfg.compile == "auto" and same and earlier.get("compile") is not None:
        reused["compile"] = earlier["compile"]
    for key in ("workers", "threads", "torch_threads"):
        if getattr(cfg, key) is None and isinstance(earlier.get(key), int):
            reused[key] = earlier[key]
    return replace(cfg, **reused)


def check_hardware(cfg: Config, earlier: Mapping[str, Any], backend: str) -> None:
    """Refuse to continue a run on hardware choices with which it would not be the same run.

    Its checkpoint is of another environment backend, or of version 0.1.0, whose compiled LayerNorm rounded otherwise.
    """
    if cfg.variant.layer_norm and earlier.get("layer_norm") == "compiled":
        raise ConfigurationError(
            "this run was trained with the compiled LayerNorm of mtrl 0.1.0, which this version does not have: "
            "continue it with mtrl 0.1.0, start a new run from its weights with transfer.source=, or train from "
            "scratch with fresh=true"
        )
    before = earlier.get("backend", backend)
    if before != backend:
        raise ConfigurationError(
            f"this run's checkpoint holds {before} environments, which {backend} ones cannot continue: "
            f"use hardware.backend={before} where it is available, or train from scratch with fresh=true"
        )
