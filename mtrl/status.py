"""``python -m mtrl.status DIR...``: how far every run of a sweep is, as one table. Imports no torch."""

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from mtrl.errors import REFUSED
from mtrl.rundir.run import Run, last_written, read_runs
from mtrl.streams import run_command
from mtrl.text import printable

_COLOURS = {"finished": "green", "running": "cyan", "failed": "red", "died": "red"}
_COLOURS |= dict.fromkeys(("interrupted", "silent"), "yellow")


def summary(run: Run) -> dict[str, Any]:
    """Return what the table shows of a run, as plain values; None for what is unknown.

    ``success`` is the mean over tasks of the newest evaluation on the training goals (on the held-out ones
    if there are no others), ``steps_per_second`` the newest speed, ``eta_seconds`` the time left at it.
    """
    speeds, written = run.timing.columns.get("steps_per_second", ()), last_written(run.path)
    speed = float(speeds[-1]) if len(speeds) and math.isfinite(speeds[-1]) else None
    state, step, total = run.state, run.step, run.total_steps
    known = state == "running" and total and (speed or 0.0) > 1e-6
    left = max(0.0, (total - step) / speed) if known else None
    return {
        "run": str(run.path),
        "state": state,
        "step": step,
        "total_steps": total,
        "success": _latest_success(run),
        "steps_per_second": speed,
        "eta_seconds": left,
        "seconds_since_log": round(time.time() - written, 1) if written else None,
        "host": run.host,
        "problems": list(run.problems),
    }


def _latest_success(run: Run) -> float | None:
    table = run.evaluation
    if not len(table):
        return None
    if (table["goals"] == "train").any():
        table = table.take(table["goals"] == "train")
    newest = table.take(table["step"] == table["step"][-1])
    by_task = dict(zip(newest["task"].tolist(), newest["success_rate"].tolist(), strict=True))
    return float(np.mean(list(by_task.values())))


def render(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the table of ``summary`` rows for the terminal."""
    numbers = [Column(name, justify="right", no_wrap=True) for name in ("step", "success", "steps/s", "ETA")]
    columns = (Column("run", overflow="fold"), Column("state", no_wrap=True), *numbers, "host")
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    # The folders that all runs share are not repeated in every row; a single run keeps its whole path.
    parts = [row["run"].split("/") for row in rows]
    folders = zip(*(part[:-1] for part in parts), strict=False)
    shared = len(list(takewhile(lambda names: len(set(names)) == 1, folders))) if len(rows) > 1 else 0
    for row, part in zip(rows, parts, strict=True):
        total = row["total_steps"]
        of = f" / {count(total)} ({100 * row['step'] / total:.0f}%)" if total else ""
        table.add_row(
            Text(printable("/".join(part[shared:]))),
            Text(printable(row["state"]), style=_COLOURS.get(row["state"], "")),
            f"{count(row['step'])}{of}",
            "-" if row["success"] is None else f"{100 * row['success']:.1f}%",
            "-" if not row["steps_per_second"] else f"{row['steps_per_second']:,.0f}",
            "-" if row["eta_seconds"] is None else duration(row["eta_seconds"]),
            Text(printable(row["host"])),
        )
    return table


def count(steps: float) -> str:
    """Return a number of steps in the short form of the field: 500, 20k, 1.5M."""
    sizes = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
    return next(
        (f"{steps / size:.3g}{unit}" for size, unit in sizes if steps >= 0.9995 * size), f"{steps:.0f}"
    )


def duration(seconds: float) -> str:
    """Return a time in the two units that matter: 2d 3h, 1h 20min, 3min, 40s."""
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}min"
    hours = round(minutes / 60)
    return f"{hours // 24}d {hours % 24}h" if minutes >= 24 * 60 else f"{minutes // 60}h {minutes % 60}min"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and return the exit code: 0, or 2 if no directory holds a run."""
    parser = argparse.ArgumentParser(prog="python -m mtrl.status", description=(__doc__ or "").strip())
    where = {"nargs": "*", "default": ["outputs"], "metavar": "DIR", "help": "runs or folders of runs"}
    parser.add_argument("directories", **where)
    parser.add_argument("--json", action="store_true", help="print one JSON object a run, no table")
    options = parser.parse_args(arguments)
    runs, problems = read_runs(options.directories)
    rows = [summary(run) for run in runs]
    for problem in (*problems, *(problem for row in rows for problem in row["problems"])):
        print(printable(problem), file=sys.stderr)
    if not rows:
        return REFUSED
    if options.json:
        print(*map(json.dumps, rows), sep="\n")
        return 0
    # A file or a pipe has no width: there, a row is one line however long.
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False)
    console.print(render(rows))
    states = Counter(printable(row["state"]) for row in rows).most_common()
    console.print(f"{len(rows)} runs: {', '.join(f'{number} {state}' for state, number in states)}")
    return 0


if __name__ == "__main__":
    run_command(main)
