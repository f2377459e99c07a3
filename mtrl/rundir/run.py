"""Run directories as objects, also of runs that still train, died, or were damaged. Imports no torch, no MuJoCo.

What can be read is used. What cannot be read is named in one sentence each (``problems``) and never guessed.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl.errors import DamagedError, UnreadableRunError
from mtrl.rundir.models import step_checkpoints
from mtrl.rundir.read import Table, number, read_json, read_table, read_text, read_yaml, section

PLAN = "plan.txt"
"""What a sweep writes into its directory: a line that counts its runs, and one for each with its directory."""
_LOGS = ("status.json", "evaluation.csv", "metrics.csv", "timing.csv")
_EVALUATION = ("step", "task", "goals", "episodes", "success_rate", "mean_return", "mean_length")
_SILENT = 30 * 60
"""Seconds without a new log row after which a run on another machine is called silent."""


class Run:
    """One run directory, read on demand.

    Args:
        path: The directory.
        damaged: Whether it may lack a readable ``config.yaml``, without which a run cannot be placed; ``config`` is
            then empty.

    Raises:
        UnreadableRunError: It lacks one.
    """

    def __init__(self, path: Path, *, damaged: bool = False) -> None:
        self.path = path
        self.problems: list[str] = []
        try:
            self.config = read_yaml(path / "config.yaml")
        except DamagedError as error:
            if not damaged:
                raise UnreadableRunError(f"{path} is left out: its {error}") from error
            self.config = {}
        self.status = self._read("status.json", read_json, {})
        self.environment = self._read("environment.json", read_json, {})

    def _read(self, name: str, read: Callable[..., Any], nothing: Any, *how: Sequence[str]) -> Any:
        """Return what ``read`` makes of a file; if it cannot be read, ``nothing``, and note the problem."""
        try:
            return read(self.path / name, *how)
        except DamagedError as error:
            self.problems.append(f"{self.path}: {error} and is left out")
            return nothing

    def _table(self, name: str, *how: Sequence[str]) -> Table:
        if not (self.path / name).exists():
            return Table({}, [])
        table = self._read(name, read_table, Table({}, []), *how)
        self.problems += table.problems
        return table

    @cached_property
    def evaluation(self) -> Table:
        """``evaluation.csv``: one row per task, kind of goals and evaluation; empty if there is none."""
        table, path = (
            self._table("evaluation.csv", ("task", "goals"), _EVALUATION),
            self.path / "evaluation.csv",
        )
        missing = [name for name in _EVALUATION[:5] if name not in table.columns]
        if table.columns and missing:
            self.problems.append(f"{path} lacks {', '.join(missing)}: it is left out")
        if missing or not len(table):
            return Table({}, [])
        rates, episodes = table["success_rate"], table["episodes"]
        good = (rates >= 0) & (rates <= 1) & (episodes >= 1) & np.isfinite(table["step"])
        if not good.all():
            where = f"{path} has {int((~good).sum())} rows"
            self.problems.append(f"{where} whose success rate or episodes are impossible: they are left out")
        return table.take(good)

    @cached_property
    def training(self) -> Table:
        """Of ``metrics.csv`` the step, the success of training episodes and the stage of the curriculum."""
        return self._table("metrics.csv", (), ("step", "success_rate", "stage"))

    @cached_property
    def timing(self) -> Table:
        """``timing.csv``: step, wall-clock seconds, speed and the shares of the time."""
        return self._table("timing.csv")

    def section(self, name: str) -> dict[str, Any]:
        """A section of the configuration; empty if it is missing or damaged."""
        return section(self.config, name)

    @property
    def version(self) -> str | None:
        """The version of this project that made the run, or None where it says nothing."""
        version = section(self.environment, "versions").get("mtrl-metaworld")
        return version if isinstance(version, str) else None

    @property
    def seed(self) -> int | None:
        """The seed, or None if the configuration names none."""
        return value if isinstance(value := self.config.get("seed"), int) else None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task set by the configuration, else the tasks that were evaluated."""
        tasks, task = self.section("env").get("tasks"), self.config.get("task")
        if isinstance(tasks, str):
            return (tasks,)
        if isinstance(tasks, list) and tasks and all(isinstance(task, str) for task in tasks):
            return tuple(tasks)
        if len(self.evaluation):
            return tuple(dict.fromkeys(self.evaluation["task"].tolist()))
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
        logged = (table.columns.get("step", ()) for table in (self.timing, self.evaluation))
        steps = [self.status.get("step"), *(steps[-1] for steps in logged if len(steps))]
        return int(max(number(step) or 0 for step in steps))

    @property
    def total_steps(self) -> int | None:
        """Environment steps asked for, or None if unknown."""
        value = number(self.status.get("total_steps")) or number(self.config.get("total_steps"))
        return int(value) if value else None

    @property
    def success(self) -> float | None:
        """The mean success rate of a finished run, which it has reached at its newest checkpoint; else None."""
        saved = step_checkpoints(self.path)
        step, rate = self.status.get("step"), number(section(self.status, "result").get("success_rate"))
        known = self.status.get("state") == "finished" and isinstance(step, int)
        return rate if known and (not saved or saved[-1].name == f"step_{step}") else None

    @property
    def state(self) -> str:
        """``finished``, ``running``, ``interrupted`` or ``failed`` as logged, ``died``, ``silent`` or ``unknown``.

        A run that says it is running has died if its process is gone from this machine; on another machine it is
        silent once it has logged nothing for half an hour.
        """
        state = self.status.get("state")
        if state != "running":
            return state if isinstance(state, str) else "unknown"
        pid = self.starts[-1].get("pid") if self.starts else None
        if isinstance(pid, int) and pid > 0 and self.host == socket.gethostname():
            return "running" if process_exists(pid) else "died"
        return "silent" if time.time() - last_written(self.path) > _SILENT else "running"

    @property
    def seconds(self) -> float | None:
        """Wall-clock seconds of training so far, restarts summed, or None without ``timing.csv``."""
        seconds = self.timing.columns.get("seconds", ())
        return float(seconds[-1]) if len(seconds) else None


@dataclass(slots=True)
class Curves:
    """The evaluations of one run on one kind of goals; NaN where a task was not evaluated."""

    steps: NDArray[np.float64]
    """``(evaluations,)`` environment steps, rising."""
    success: NDArray[np.float64]
    """``(tasks, evaluations)`` success rates. The others have the same shape, means over the episodes."""
    returns: NDArray[np.float64]
    lengths: NDArray[np.float64]
    episodes: NDArray[np.float64]

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Which evaluations cover every task."""
        return np.isfinite(self.success).all(axis=0)

    def mean(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return steps and mean success over tasks of the complete evaluations."""
        return self.steps[self.complete], self.success[:, self.complete].mean(axis=0)

    def final(self) -> int:
        """Return the index of the last complete evaluation."""
        return int(np.flatnonzero(self.complete)[-1])


def curves_of(run: Run, tasks: tuple[str, ...], until: float | None = None) -> dict[str, Curves]:
    """Return the evaluations of a run by kind of goals, as far as one covers every one of its ``tasks``.

    Evaluations after the environment step ``until`` are ignored, if it is given.
    """
    table, last, found = run.evaluation, np.inf if until is None else until, {}
    place = {task: index for index, task in enumerate(tasks)}
    for goals in ("train", "heldout") if len(table) else ():
        known = np.array([task in place for task in table["task"].tolist()])
        rows = table.take(known & (table["goals"] == goals) & (table["step"] <= last))
        # An official evaluation beside a short one at the same step wins, whatever their order in the file.
        rows = rows.take(np.argsort(rows["episodes"], kind="stable"))
        steps, at = np.unique(rows["step"], return_inverse=True)
        # Hardly any task has a value at any step: a table of them all would be far larger than the log.
        if len(tasks) * len(steps) > 10 * len(rows) + 1000:
            continue
        columns = []
        for name in ("success_rate", "mean_return", "mean_length", "episodes"):
            values = np.full((len(tasks), len(steps)), np.nan)
            if name in rows.columns:
                values[[place[task] for task in rows["task"].tolist()], at] = rows[name]
            columns.append(values)
        curves = Curves(steps, *columns)
        if curves.complete.any():
            found[goals] = curves
    return found


def last_written(path: Path) -> float:
    """Return when the run in ``path`` last wrote a log, in seconds since 1970; 0 if there is none."""
    paths = [path / name for name in _LOGS]
    return max((path.stat().st_mtime for path in paths if path.is_file()), default=0.0)


def process_exists(pid: int) -> bool:
    """Return whether a process of this machine still runs."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def find_runs(roots: Iterable[str | Path]) -> tuple[list[Path], list[str]]:
    """Return the run directories at or below ``roots``, sorted, and a sentence for each root without one.

    The directory of a sweep holds its plan instead of its runs: it stands for the runs that the plan names.
    """
    found: list[Path] = []
    problems: list[str] = []
    for root in map(Path, roots):
        before = len(found) + len(problems)
        for directory, below, files in os.walk(root):
            # Nobody keeps runs that deep, and os.walk fails at a thousand folders one in the other.
            deep = directory.count(os.sep) > str(root).count(os.sep) + 50
            skip = deep or _is_run(files)
            below[:] = [] if skip else sorted(name for name in below if not name.startswith("."))
            if _is_run(files):
                found.append(Path(directory))
            elif PLAN in files:
                planned, absent = _planned(Path(directory))
                found += planned
                problems += absent
        if len(found) + len(problems) == before:
            kind = "is a file" if os.path.exists(root) else "does not exist"
            missing = f"{kind}: give a run directory or one that holds runs"
            none = "holds no run: a run directory has a config.yaml and a status.json"
            problems.append(f"{root} {none if os.path.isdir(root) else missing}")
    # Of two names of one directory, the first counts.
    return sorted({path.resolve(): path for path in reversed(found)}.values()), problems


def _is_run(files: Iterable[str]) -> bool:
    # One of them may be missing, which is then said.
    return len({"config.yaml", "status.json", "evaluation.csv"} & set(files)) > 1


def _planned(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the runs that the plan of a sweep names, and a sentence for each that is not there."""
    try:
        lines = read_text(folder / PLAN).splitlines()[1:]
    except DamagedError as error:
        return [], [f"{folder}: {error}: give the runs of the sweep instead"]
    runs, missing = [], []
    for path in (Path(line.strip()) for line in lines if line.strip()):
        # The plan's paths are relative to where the sweep was started, which is above the plan.
        base = next((base for base in folder.resolve().parents if os.path.isdir(base / path)), Path.cwd())
        path = path if base == Path.cwd() else base / path
        if os.path.isdir(path) and _is_run(next(os.walk(path), ("", [], []))[2]):
            runs.append(path)
        else:
            missing.append(f"{path} is planned in {folder / PLAN} and did not start")
    return runs, missing


def read_runs(roots: Iterable[str | Path]) -> tuple[list[Run], list[str]]:
    """Return every readable run at or below ``roots`` and a sentence for each that is not."""
    paths, problems = find_runs(roots)
    runs = []
    for path in paths:
        try:
            runs.append(Run(path))
        except UnreadableRunError as error:
            problems.append(str(error))
    return runs, problems
