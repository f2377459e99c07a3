"""What an earlier start left in a run directory, and whether this one is the same run."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtrl.config import Config, ConfigurationError, HardwareConfig
from mtrl.hardware import cuda_available
from mtrl.identity import is_learned
from mtrl.rundir import Run, RunError, flatten

_VOLATILE = ("fresh", "dry_run", "output", "task", "experiment", "seed", "phase")
"""Keys that say nothing about the run itself, or that others spell out."""
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Earlier:
    """The files of an earlier start."""

    config: dict[str, Any] | None
    """None where ``config.yaml`` is missing or damaged."""
    status: dict[str, Any]
    """Empty where ``status.json`` is missing or damaged."""

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.status.get("state") == "finished" and isinstance(self.status.get("result"), dict)

    def is_done(self, total_steps: int, enough: float | None) -> bool:
        """Tell whether the run came to its end, and nothing more is asked for now.

        Args:
            total_steps: Environment steps asked for now.
            enough: Success rate that ends the run now; None where only the steps do.
        """
        if not self.finished:
            return False
        solved = enough is not None and self.status["result"]["success_rate"] >= enough
        return solved or int(self.status.get("step", 0)) >= total_steps


def read_earlier(path: Path) -> Earlier | None:
    """Return what is in a run directory, or None where no run has started."""
    if not any((path / name).exists() for name in ("config.yaml", "status.json", "checkpoints")):
        return None
    try:
        run = Run(path)
    except RunError:
        return Earlier(None, _status(path))
    return Earlier(run.config, run.status)


def _status(path: Path) -> dict[str, Any]:
    try:
        content = json.loads((path / "status.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def changed_keys(earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys with other values than an earlier configuration had, as (earlier, now).

    A key that the earlier configuration lacks was added to the project since; its value then was its default.

    Raises:
        ConfigurationError: One of them decides what is learned.
    """
    before, after = flatten(earlier), flatten(now)
    changed = {
        key: (before[key], after.get(key, _ABSENT))
        for key in before
        if not key.startswith("choices.") and before[key] != after.get(key, _ABSENT)
    }
    learned = [key for key in changed if is_learned(key)]
    if learned:
        said = ", ".join(
            f"{key} ({_said(changed[key][0])} there, {_said(changed[key][1])} now)" for key in learned
        )
        raise ConfigurationError(
            f"the run directory holds another configuration: {said}; give the earlier values, or train anew "
            "with fresh=true"
        )
    return {key: values for key, values in changed.items() if key.split(".")[0] not in _VOLATILE}


def added_keys(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the keys that an earlier configuration lacks."""
    return sorted(flatten(now).keys() - flatten(earlier).keys())


def describe_change(changed: dict[str, tuple[Any, Any]]) -> str:
    """Return changes as ``key: earlier -> now``."""
    return ", ".join(f"{key}: {_said(old)} -> {_said(new)}" for key, (old, new) in changed.items())


def _said(value: object) -> str:
    return "absent" if value is _ABSENT else str(value)


def reuse_hardware(cfg: HardwareConfig, earlier: dict[str, Any]) -> HardwareConfig:
    """Return ``cfg`` with what it leaves open as an earlier start chose it: all is rounded as before.

    What is no longer there (a GPU) is chosen anew.
    """
    hardware = earlier.get("hardware")
    if not isinstance(hardware, dict):
        return cfg
    reused: dict[str, Any] = {}
    if cfg.device == "auto" and hardware.get("device") == "cpu":
        reused["device"] = "cpu"
    device, before = reused.get("device", cfg.device), hardware.get("device")
    same = device == before or (device == "auto" and isinstance(before, str) and cuda_available(before))
    if cfg.compile == "auto" and same and hardware.get("compile") is not None:
        reused["compile"] = hardware["compile"]
    if cfg.backend == "auto" and hardware.get("backend") == "stock":
        reused["backend"] = "stock"
    for key in ("workers", "threads", "torch_threads"):
        if getattr(cfg, key) is None and isinstance(hardware.get(key), int):
            reused[key] = hardware[key]
    return replace(cfg, **reused)


def check_layer_norm(cfg: Config, earlier: dict[str, Any]) -> None:
    """Refuse to continue a run that version 0.1.0 trained with its compiled LayerNorm, which rounded otherwise.

    Raises:
        ConfigurationError: The run is such a run.
    """
    hardware = earlier.get("hardware")
    compiled = isinstance(hardware, dict) and hardware.get("layer_norm") == "compiled"
    if cfg.variant.layer_norm and compiled:
        raise ConfigurationError(
            "this run was trained with the compiled LayerNorm of mtrl 0.1.0, which this version does not have: "
            "continue it with mtrl 0.1.0, start a new run from its weights with transfer.source=, or train anew with "
            "fresh=true"
        )


def aside_name(path: Path) -> Path:
    """Return the name under which a run directory is kept when another run takes its place."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside, number = path.with_name(f"{path.name}.{stamp}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{stamp}-{number}")
    return aside
