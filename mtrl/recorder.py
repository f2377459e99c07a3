"""The directory of one run, as its trainer sees it: what state it is in, and what is written about it."""

import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mtrl.compose import Composition
from mtrl.evaluation import Evaluation
from mtrl.identity import differences
from mtrl.records import environment, write_json, write_yaml

logger = logging.getLogger(__name__)


class Recorder:
    """Writes the files of one run that say what it is and how far it is.

    Args:
        path: The directory; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._status: dict[str, Any] = {}
        self._handler: logging.Handler | None = None

    def status(self) -> dict[str, Any] | None:
        """Return what ``status.json`` says, or None where there is no run."""
        file = self.path / "status.json"
        return json.loads(file.read_text()) if file.is_file() else None

    def move_aside(self) -> Path | None:
        """Rename the directory so that a new run can take its name; return where it is now, or None if none was."""
        if not self.path.exists():
            return None
        stamp = time.strftime("%Y%m%d-%H%M%S")
        aside = self.path.with_name(f"{self.path.name}.{stamp}")
        number = 1
        while aside.exists():
            number += 1
            aside = self.path.with_name(f"{self.path.name}.{stamp}-{number}")
        self.path.rename(aside)
        return aside

    def start(self, composition: Composition, chosen: Mapping[str, Any]) -> None:
        """Make the directory and write down what is about to run, on what."""
        self.checkpoints.mkdir(parents=True)
        self._handler = logging.FileHandler(self.path / "run.log")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(self._handler)
        write_yaml(self.path / "config.yaml", {**composition.values, "choices": composition.choices})
        write_json(self.path / "environment.json", environment())
        self._status = {
            "state": "running",
            "step": 0,
            "total_steps": composition.config.total_steps,
            "hardware": dict(chosen),
            "differences": differences(composition, from_recipe=True),
            "starts": [
                {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "step": 0,
                }
            ],
            "result": None,
        }
        write_json(self.path / "status.json", self._status)

    def set_step(self, step: int) -> None:
        """Write down how far the run is."""
        self._status["step"] = step
        write_json(self.path / "status.json", self._status)

    def finish(self, step: int, evaluation: Evaluation) -> None:
        """Write down that the run is done and what it came to."""
        result = {
            "success_rate": evaluation.success_rate,
            "mean_return": evaluation.mean_return,
            "tasks": [asdict(row) for row in evaluation.results],
        }
        self._end("finished", step, result)

    def fail(self, state: str, reason: str) -> None:
        """Write down that the run ended before its time: "interrupted" or "failed"."""
        if self._status:
            self._status["reason"] = reason
            self._end(state, self._status["step"], None)

    def _end(self, state: str, step: int, result: dict[str, Any] | None) -> None:
        self._status |= {"state": state, "step": step, "result": result}
        write_json(self.path / "status.json", self._status)
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            self._handler.close()

    def keep_newest(self, count: int) -> None:
        """Delete all but the newest ``count`` checkpoints; the best one and those of stages stay."""
        steps = sorted(self.checkpoints.glob("step_*"), key=lambda path: int(path.name.removeprefix("step_")))
        for path in steps[:-count]:
            shutil.rmtree(path)
