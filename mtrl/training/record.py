"""What is written about one run while it trains: what it is, how far it is, and how it ended."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtrl import streams
from mtrl.errors import DirectoryChangedError
from mtrl.experiment import Composition
from mtrl.rundir.checkpoints import Checkpoint
from mtrl.rundir.environment import environment
from mtrl.rundir.models import CHECKPOINTS
from mtrl.rundir.write import write_json, write_yaml

if TYPE_CHECKING:
    from mtrl.config.types import HardwareConfig
    from mtrl.evaluation.protocol import Evaluation

logger = logging.getLogger(__name__)


class RunRecord:
    """Writes ``config.yaml``, ``environment.json``, ``status.json`` and ``run.log``.

    ``earlier`` is the status that the last start left, ``changed`` what this one does differently from the first, in
    words. Both are empty for a new run, whose directory need not exist.
    """

    def __init__(
        self, path: Path, composition: Composition, earlier: dict[str, Any] | None = None, changed: str = ""
    ) -> None:
        self.path, self.earlier = path, earlier or {}
        self.checkpoints: list[Checkpoint] = []
        """Those of earlier starts, the newest first."""
        self.waits = False
        """Whether the disk had no room for the newest status; ``write`` tries again."""
        self._composition, self._changed = composition, changed
        self._status: dict[str, Any] = {}
        self._lost: set[int] = set()

    @contextlib.contextmanager
    def log(self) -> Iterator[None]:
        """Write what is logged inside the block to ``run.log`` too."""
        handler, root = logging.FileHandler(self.path / "run.log", encoding="utf-8"), logging.getLogger()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        # A full disk may cost it lines, which the terminal has, but must not disturb the run.
        handler.handleError = lambda record: None
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            with contextlib.suppress(OSError):
                handler.close()

    def start(self, machine: "HardwareConfig", step: int = 0) -> None:
        """Write down what is about to run, on what, and after how many steps of earlier starts."""
        composition, starts = self._composition, self.earlier.get("starts")
        (self.path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        if step == 0:
            # What an earlier start logged before its first checkpoint is made again.
            for name in ("metrics.csv", "evaluation.csv", "timing.csv"):
                (self.path / name).unlink(missing_ok=True)
        if step == 0 or not (self.path / "config.yaml").is_file():
            write_yaml(self.path / "config.yaml", {**composition.values, "choices": composition.choices})
        write_json(self.path / "environment.json", environment())
        begun = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "host": socket.gethostname()}
        begun |= {"pid": os.getpid(), "step": step, "total_steps": composition.config.total_steps}
        if self._changed:
            begun["changed"] = self._changed
        self.set(
            state="running",
            step=step,
            total_steps=composition.config.total_steps,
            hardware=asdict(machine),
            differences=composition.differences,
            starts=[*(starts if isinstance(starts, list) else []), begun],
            checkpoint=step or None,
            result=None,
        )

    def set(self, **entries: Any) -> None:
        """Set entries of the status; OSError if the disk is full or broken, and then the file is as it was."""
        for descriptor in streams.LOST.keys() - self._lost:
            logger.warning(streams.LOST[descriptor])
            self._lost.add(descriptor)
        self._status |= entries
        self.waits = True
        self.write()

    def update(self, **entries: Any) -> None:
        """Set entries of the status; on a full disk they wait for ``write``."""
        try:
            self.set(**entries)
        except OSError as error:
            logger.warning("status.json waits to be written (%s)", error)

    def write(self) -> None:
        """Write the status if it waits to be written; raises OSError as ``set`` does."""
        if self.waits:
            write_json(self.path / "status.json", self._status)
            self.waits = False

    def finish(self, step: int, evaluation: "Evaluation") -> None:
        """Write down that the run is finished, and its result."""
        result = {"success_rate": evaluation.success_rate, "mean_return": evaluation.mean_return}
        result["tasks"] = [asdict(row) for row in evaluation.results]
        self.set(state="finished", step=step, result=result)

    def fail(self, state: str, reason: str, transition: Mapping[str, Any] | None = None) -> None:
        """Write down that the run ended early, as far as the disk has room; ``state`` is "interrupted" or "failed".

        A ``transition`` that is not finite is kept for whoever looks for the cause.
        """
        refused = self.path / "refused_transition.npz"
        try:
            if transition is not None:
                np.savez(refused, **transition)
        except OSError as error:
            logger.error("%s cannot be written: %s", refused.name, error)
            refused.unlink(missing_ok=True)
        # The caller is about to print the reason, which neither a full disk nor a lost directory must hide.
        with contextlib.suppress(DirectoryChangedError):
            if self._status:
                self.update(state=state, reason=reason, result=None)

    @property
    def saved_at(self) -> int | None:
        """Step of the newest checkpoint; None before the first."""
        return self._status.get("checkpoint")
