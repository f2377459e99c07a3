"""The experiment tracker that a run may mirror its logs to: Weights & Biases. Off unless asked for."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from mtrl.config import Config
from mtrl.errors import ConfigurationError

PROJECT = "mtrl"


class Tracker(Protocol):
    """What a run needs of a tracker."""

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Write numbers of an environment step."""

    def close(self) -> None:
        """Write what is left."""


def make_tracker(cfg: Config, directory: Path) -> Tracker | None:
    """Return the tracker of a run, None where none is asked for.

    Args:
        cfg: The run.
        directory: Its run directory; a run that goes on there is the same one to the tracker.
    """
    if cfg.logging.wandb == "off":
        return None
    return WandbTracker(cfg, directory)


class WandbTracker:
    """Mirrors to Weights & Biases, online or to files that ``wandb sync`` uploads.

    Args:
        cfg: The run; its configuration is sent along, its environment variables and code are not.
        directory: Its run directory, where wandb keeps its files.

    Raises:
        ConfigurationError: wandb cannot begin, in one sentence.
    """

    def __init__(self, cfg: Config, directory: Path) -> None:
        import wandb

        folder = directory.absolute()
        arguments: dict[str, Any] = {
            "project": PROJECT,
            # The same directory is the same run, however often it was continued.
            "id": hashlib.sha256(str(folder).encode()).hexdigest()[:16],
            "resume": "allow",
            "name": f"{directory.parent.name}/{directory.name}",
            "group": cfg.experiment,
            "config": asdict(cfg),
            "dir": folder,
            "mode": cfg.logging.wandb,
            "settings": wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        }
        try:
            self._run: Any = wandb.init(**arguments)
        except wandb.Error as error:
            raise ConfigurationError(
                f"logging.wandb={cfg.logging.wandb} cannot begin ({error}): use logging.wandb=offline"
            ) from error
        # wandb's own step only grows, and several groups are logged at one environment step.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Write numbers of an environment step."""
        self._run.log({**scalars, "step": step})

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()
