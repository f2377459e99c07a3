"""The directory of one run, as its trainer sees it: what state it is in, and what is written about it."""

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

from mtrl.config.compose import Composition
from mtrl.experiment import differences
from mtrl.rundir.environment import environment
from mtrl.rundir.write import write_json, write_yaml

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from mtrl.evaluation.protocol import Evaluation


LOGS = ("metrics.csv", "evaluation.csv", "timing.csv")


class Recorder:
    """Writes the files of one run that say what it is and how far it is.

    Args:
        path: The directory; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._status: dict[str, Any] = {}
        self.waits = False
        """Whether the status could not be written as it is."""

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

    def start(
        self,
        composition: Composition,
        chosen: Mapping[str, Any],
        *,
        step: int = 0,
        earlier: Mapping[str, Any] | None = None,
        changed: str = "",
    ) -> None:
        """Make the directory, or go on in it, and write down what is about to run, on what.

        Args:
            composition: The run.
            chosen: What it uses of the machine.
            step: Environment steps that were made before this start.
            earlier: The status that the last start left.
            changed: What this start does otherwise than the first.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        if step == 0:
            # What an earlier start logged before its first checkpoint is made again.
            for name in LOGS:
                (self.path / name).unlink(missing_ok=True)
        if step == 0 or not (self.path / "config.yaml").is_file():
            write_yaml(self.path / "config.yaml", {**composition.values, "choices": composition.choices})
        write_json(self.path / "environment.json", environment())
        starts = (earlier or {}).get("starts")
        self._status = {
            "state": "running",
            "step": step,
            "total_steps": composition.config.total_steps,
            "hardware": dict(chosen),
            "differences": differences(composition, from_recipe=True),
            "starts": [
                *(starts if isinstance(starts, list) else []),
                {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "step": step,
                    "total_steps": composition.config.total_steps,
                    **({"changed": changed} if changed else {}),
                },
            ],
            "checkpoint": step or None,
            "result": None,
        }
        self._write()

    def set_step(self, step: int) -> None:
        """Write down how far the run is; on a full disk it waits for ``write``."""
        self._status["step"] = step
        self._write_or_wait()

    def set_checkpoint(self, step: int) -> None:
        """Write down that a checkpoint of ``step`` is on the disk.

        Raises:
            OSError: The disk is full or broken.
        """
        self._status |= {"checkpoint": step, "step": step}
        self._write()

    def note(self, name: str, entry: Mapping[str, Any]) -> None:
        """Write down ``entry`` under a name of its own, in place of an earlier one; it may wait for ``write``."""
        self._status[name] = dict(entry)
        self._write_or_wait()

    @property
    def saved_at(self) -> int | None:
        """Step of the newest checkpoint; None before the first."""
        return self._status.get("checkpoint")

    @property
    def newest(self) -> Path | None:
        """The newest checkpoint; None before the first."""
        return None if self.saved_at is None else self.checkpoints / f"step_{self.saved_at}"

    def finish(self, step: int, evaluation: "Evaluation") -> None:
        """Write down that the run is done and what it came to."""
        result = {
            "success_rate": evaluation.success_rate,
            "mean_return": evaluation.mean_return,
            "tasks": [asdict(row) for row in evaluation.results],
        }
        self._end("finished", step, result)

    def fail(self, state: str, reason: str) -> None:
        """Write down that the run ended before its time: "interrupted" or "failed"."""
        if not self._status:
            return
        self._status["reason"] = reason
        try:
            self._end(state, self._status["step"], None)
        except OSError as error:
            # The reason is what the caller is about to tell; a full disk must not hide it.
            logger.error("status.json cannot be written: %s", error)

    def dump(self, transition: Mapping[str, Any] | None) -> None:
        """Keep the transition that was refused, for whoever looks for the cause, if the disk has room for it."""
        if transition is None:
            return
        path = self.path / "refused_transition.npz"
        try:
            np.savez(path, **transition)
        except OSError as error:
            logger.error("%s cannot be written: %s", path.name, error)
            path.unlink(missing_ok=True)

    def _end(self, state: str, step: int, result: dict[str, Any] | None) -> None:
        self._status |= {"state": state, "step": step, "result": result}
        self._write()

    def write(self) -> None:
        """Write the status if it waits to be written.

        Raises:
            OSError: The disk is full or broken; the file is as it was.
        """
        if self.waits:
            self._write()

    def _write_or_wait(self) -> None:
        try:
            self._write()
        except OSError as error:
            logger.warning("status.json waits to be written (%s)", error)

    def _write(self) -> None:
        self.waits = True
        write_json(self.path / "status.json", self._status)
        self.waits = False


class _RunLog(logging.FileHandler):
    """``run.log``, whose lines a full disk may cost, but nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Let the line go: the terminal has it, and a traceback for every line would hide it there."""

    def close(self) -> None:
        """Close the file, also where the last lines have no room."""
        with contextlib.suppress(OSError):
            super().close()
