"""What is written about one run while it trains: what it is, how far it is, and how it ended."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtrl.experiment import Composition
from mtrl.rundir.environment import environment
from mtrl.rundir.models import CHECKPOINTS, step_checkpoint
from mtrl.rundir.write import write_json, write_yaml

if TYPE_CHECKING:
    from mtrl.evaluation.protocol import Evaluation
    from mtrl.hardware import Hardware

logger = logging.getLogger(__name__)

LOGS = ("metrics.csv", "evaluation.csv", "timing.csv")


class RunRecord:
    """Writes ``config.yaml``, ``environment.json``, ``status.json`` and ``run.log``.

    Args:
        path: The run directory; it need not exist.
        composition: The run.
        earlier: The status that the last start left; empty for a new run.
        changed: What this start does differently from the first, in words.
    """

    def __init__(
        self,
        path: Path,
        composition: Composition,
        earlier: Mapping[str, Any] | None = None,
        changed: str = "",
    ) -> None:
        self.path, self.earlier = path, dict(earlier or {})
        self.waits = False
        """Whether the disk had no room for the newest status; ``write`` tries again."""
        self._composition, self._changed = composition, changed
        self._status: dict[str, Any] = {}

    @contextmanager
    def log(self) -> Iterator[None]:
        """Write what is logged inside the block to ``run.log`` too."""
        handler = _RunLog(self.path / "run.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()

    def start(self, machine: "Hardware", step: int = 0) -> None:
        """Write down what is about to run, on what, and after how many steps of earlier starts."""
        cfg = self._composition.config
        (self.path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        if step == 0:
            # What an earlier start logged before its first checkpoint is made again.
            for name in LOGS:
                (self.path / name).unlink(missing_ok=True)
        if step == 0 or not (self.path / "config.yaml").is_file():
            values = {**self._composition.values, "choices": self._composition.choices}
            write_yaml(self.path / "config.yaml", values)
        write_json(self.path / "environment.json", environment())
        starts = self.earlier.get("starts")
        this_start = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "step": step,
            "total_steps": cfg.total_steps,
            **({"changed": self._changed} if self._changed else {}),
        }
        self._status = {
            "state": "running",
            "step": step,
            "total_steps": cfg.total_steps,
            "hardware": asdict(machine),
            "differences": self._composition.differences,
            "starts": [*(starts if isinstance(starts, list) else []), this_start],
            "checkpoint": step or None,
            "result": None,
        }
        self._write()

    def update(self, **entries: Any) -> None:
        """Set entries of the status; on a full disk they wait for ``write``."""
        self._status |= entries
        try:
            self._write()
        except OSError as error:
            logger.warning("status.json waits to be written (%s)", error)

    def set_checkpoint(self, step: int) -> None:
        """Write down that the checkpoint of ``step`` is on the disk.

        Raises:
            OSError: The disk is full or broken.
        """
        self._status |= {"checkpoint": step, "step": step}
        self._write()

    def finish(self, step: int, evaluation: "Evaluation") -> None:
        """Write down that the run is finished, and its result."""
        result = {
            "success_rate": evaluation.success_rate,
            "mean_return": evaluation.mean_return,
            "tasks": [asdict(row) for row in evaluation.results],
        }
        self._status |= {"state": "finished", "step": step, "result": result}
        self._write()

    def fail(self, state: str, reason: str) -> None:
        """Write down that the run ended early; ``state`` is "interrupted" or "failed"."""
        if not self._status:
            return
        self._status |= {"state": state, "reason": reason, "result": None}
        try:
            self._write()
        except OSError as error:
            # The caller is about to print the reason, which a full disk must not hide.
            logger.error("status.json cannot be written: %s", error)

    @property
    def saved_at(self) -> int | None:
        """Step of the newest checkpoint; None before the first."""
        return self._status.get("checkpoint")

    @property
    def newest_checkpoint(self) -> Path | None:
        """The newest checkpoint; None before the first."""
        return None if self.saved_at is None else step_checkpoint(self.path, self.saved_at)

    def keep_refused(self, transition: Mapping[str, Any] | None) -> None:
        """Keep a transition that is not finite, for whoever looks for the cause, if the disk has room."""
        if transition is None:
            return
        path = self.path / "refused_transition.npz"
        try:
            np.savez(path, **transition)
        except OSError as error:
            logger.error("%s cannot be written: %s", path.name, error)
            path.unlink(missing_ok=True)

    def write(self) -> None:
        """Write the status if it waits to be written.

        Raises:
            OSError: The disk is full or broken; the file is as it was.
        """
        if self.waits:
            self._write()

    def _write(self) -> None:
        self.waits = True
        write_json(self.path / "status.json", self._status)
        self.waits = False


class _RunLog(logging.FileHandler):
    """``run.log``: a full disk may cost it lines, but must not disturb the run."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Let the line go: the terminal has it, and a traceback for every line would hide it there."""

    def close(self) -> None:
        """Close the file, also if the last lines have no room."""
        with contextlib.suppress(OSError):
            super().close()
