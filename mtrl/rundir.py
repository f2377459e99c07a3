"""Read run directories, also of runs that still go on, died, or were damaged. Imports no torch, no MuJoCo.

What can be read is used; what cannot is said in one sentence each (``problems``) and never guessed. Nothing
in a run directory is executed: YAML is read without tags and aliases, JSON as data, CSV as numbers and words.
"""

import json
import math
import os
import re
import socket
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mtrl.csvlog import Table, read_table

EVALUATION_TEXT = ("task", "goals")
"""The columns of ``evaluation.csv`` that hold words."""

_LARGEST_FILE = 4 * 2**20
"""Bytes of a configuration or status file beyond which it is certainly none."""

_SILENT = 30 * 60
"""Seconds without a new log row after which a run on another machine is called silent."""


class RunError(ValueError):
    """A directory cannot be read as a run; the message is one sentence for the user."""


class Run:
    """One run directory, read on demand.

    Args:
        path: The directory that holds ``config.yaml``.

    Raises:
        RunError: If there is no readable configuration, without which the run cannot be placed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self.config = _read_config(path / "config.yaml")
        self.status = self._json("status.json")
        self.environment = self._json("environment.json")

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if not path.is_file():
            self.problems.append(f"{path} is missing: the run died before it was written")
            return {}
        try:
            content = json.loads(_text(path))
        except (ValueError, RecursionError, OSError) as error:
            self.problems.append(f"{path} cannot be read ({_reason(error)}): it is left out")
            return {}
        if not isinstance(content, dict):
            self.problems.append(f"{path} holds no table of values: it is left out")
            return {}
        return content

    def _table(self, name: str, text: Sequence[str] = (), columns: Sequence[str] | None = None) -> Table:
        path = self.path / name
        if not path.is_file():
            return Table({}, [])
        try:
            table = read_table(path, text, columns)
        except (OSError, ValueError) as error:
            self.problems.append(f"{path} cannot be read ({_reason(error)}): it is left out")
            return Table({}, [])
        self.problems.extend(table.problems)
        return table

    @cached_property
    def evaluation(self) -> Table:
        """``evaluation.csv``: one row per task, kind of goals and evaluation; empty where there is none."""
        needed = ("step", "task", "goals", "episodes", "success_rate", "mean_return", "mean_length")
        table = self._table("evaluation.csv", EVALUATION_TEXT, needed)
        missing = [name for name in needed[:5] if name not in table.columns]
        if table.columns and missing:
            self.problems.append(f"{self.path / 'evaluation.csv'} lacks {', '.join(missing)}: it is left out")
            return Table({}, [])
        if not len(table):
            return table
        rates, episodes = table["success_rate"], table["episodes"]
        good = (rates >= 0) & (rates <= 1) & (episodes >= 1) & np.isfinite(table["step"])
        if not good.all():
            where = f"{self.path / 'evaluation.csv'} has {int((~good).sum())} rows"
            self.problems.append(f"{where} whose success rate or episodes are impossible: they are left out")
            return table.take(good)
        return table

    @cached_property
    def training(self) -> Table:
        """Of ``metrics.csv`` the step, the success of training episodes and the stage of the curriculum."""
        return self._table("metrics.csv", (), ("step", "success_rate", "stage"))

    @cached_property
    def timing(self) -> Table:
        """``timing.csv``: step, wall-clock seconds, speed and the shares of the time."""
        return self._table("timing.csv")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration as one level of dotted keys."""
        return flatten(self.config)

    @property
    def seed(self) -> int | None:
        """The seed, or None where the configuration names none."""
        value = self.config.get("seed")
        return value if isinstance(value, int) else None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task set by the configuration, else the tasks that were evaluated."""
        env = self.config.get("env")
        tasks = env.get("tasks") if isinstance(env, dict) else None
        if isinstance(tasks, str):
            return (tasks,)
        if isinstance(tasks, list) and tasks and all(isinstance(task, str) for task in tasks):
            return tuple(tasks)
        if len(self.evaluation):
            return tuple(dict.fromkeys(self.evaluation["task"].tolist()))
        task = self.config.get("task")
        return (task,) if isinstance(task, str) else ()

    @property
    def starts(self) -> list[dict[str, Any]]:
        """Every start of the run, oldest first."""
        starts = self.status.get("starts")
        return [start for start in starts if isinstance(start, dict)] if isinstance(starts, list) else []

    @property
    def host(self) -> str:
        """The machine of the newest start, or an empty string."""
        return str(self.starts[-1].get("host", "")) if self.starts else ""

    @property
    def step(self) -> int:
        """Environment steps done, by the status or the logs, whichever is further."""
        logged = [
            table["step"][-1]
            for table in (self.timing, self.evaluation)
            if len(table) and "step" in table.columns
        ]
        return int(
            max([_number(self.status.get("step")) or 0, *(value for value in logged if math.isfinite(value))])
        )

    @property
    def total_steps(self) -> int | None:
        """Environment steps asked for, or None where nothing says."""
        value = _number(self.status.get("total_steps")) or _number(self.config.get("total_steps"))
        return int(value) if value else None

    @property
    def state(self) -> str:
        """``finished``, ``running``, ``interrupted`` or ``failed`` as logged, or ``died``, or ``silent``.

        A run that says it is running but whose process is gone from this machine has died; one on another
        machine that has logged nothing for half an hour is silent.
        """
        state = self.status.get("state")
        if not isinstance(state, str):
            return "unknown"
        if state != "running":
            return state
        pid = self.starts[-1].get("pid") if self.starts else None
        if isinstance(pid, int) and self.host == socket.gethostname():
            return "running" if _alive(pid) else "died"
        quiet = time.time() - self.last_written
        return "silent" if quiet > _SILENT else "running"

    @property
    def last_written(self) -> float:
        """Time of the newest log, in seconds since 1970; 0 where there is none."""
        names = ("status.json", "evaluation.csv", "metrics.csv", "timing.csv")
        paths = [self.path / name for name in names]
        return max((path.stat().st_mtime for path in paths if path.is_file()), default=0.0)

    @property
    def seconds(self) -> float | None:
        """Wall-clock seconds of training so far, restarts summed, or None without ``timing.csv``."""
        if len(self.timing) and "seconds" in self.timing.columns:
            return float(self.timing["seconds"][-1])
        return None


def find_runs(roots: Iterable[str | Path]) -> tuple[list[Path], list[str]]:
    """Return the run directories at or below ``roots``, sorted, and a sentence for each root without one."""
    found: dict[Path, None] = {}
    problems = []
    for root in map(Path, roots):
        if not root.is_dir():
            kind = "is a file" if root.exists() else "does not exist"
            problems.append(f"{root} {kind}: give a run directory or one that holds runs")
            continue
        runs = []
        for directory, below, files in os.walk(root):
            if "config.yaml" in files and ("status.json" in files or "evaluation.csv" in files):
                runs.append(Path(directory))
                below.clear()
            else:
                below[:] = sorted(name for name in below if not name.startswith("."))
        if not runs:
            problems.append(f"{root} holds no run: a run directory has a config.yaml and a status.json")
        found.update(dict.fromkeys(runs))
    unique = {path.resolve(): path for path in reversed(found)}
    return sorted(unique.values()), problems


def read_runs(roots: Iterable[str | Path]) -> tuple[list[Run], list[str]]:
    """Return every readable run at or below ``roots`` and a sentence for each that is not."""
    paths, problems = find_runs(roots)
    runs = []
    for path in paths:
        try:
            runs.append(Run(path))
        except RunError as error:
            problems.append(str(error))
    return runs, problems


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one level of dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which let a small file stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it uses aliases, which no configuration of mtrl does")
        return super().compose_node(parent, index)


def _number_resolver() -> None:
    # YAML 1.1 takes 1e-4 for a word; configurations are written by people who mean the number.
    pattern = re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$")
    _PlainLoader.add_implicit_resolver("tag:yaml.org,2002:float", pattern, list("-+0123456789"))


_number_resolver()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(_text(path), Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise RunError(
            f"{path.parent} is left out: its config.yaml cannot be read ({_reason(error)})"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise RunError(f"{path.parent} is left out: its config.yaml holds no configuration")
    return content


def _text(path: Path) -> str:
    if not path.is_file():
        raise ValueError("there is no such file")
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise ValueError(f"it is {size / 2**20:.0f} MiB long")
    if not size:
        raise ValueError("it is empty")
    return path.read_text(encoding="utf-8")


def _reason(error: BaseException) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem}, line {error.problem_mark.line + 1}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no text"
    if isinstance(error, OSError):
        return str(error.strerror or error)
    return " ".join(str(error).split())


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
