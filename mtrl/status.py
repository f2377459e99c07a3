"""``python -m mtrl.status DIR...``: where every run of a sweep stands, as one table. Imports no torch."""

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mtrl.rundir.run import Run, read_runs

_COLOURS = {
    "finished": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "silent": "yellow",
    "failed": "red",
    "died": "red",
}


def summary(run: Run) -> dict[str, Any]:
    """Return what the table shows of a run, as plain values; None where the run says nothing.

    ``success`` is the mean over tasks of the newest evaluation on the training goals (of the held-out ones
    where there are no others), ``steps_per_second`` the newest speed, ``eta_seconds`` the time left at it.
    """
    state, step, total = run.state, run.step, run.total_steps
    speed = _last(run, "steps_per_second")
    left = None
    if state == "running" and speed and total:
        left = max(0.0, (total - step) / speed)
    return {
        "run": str(run.path),
        "state": state,
        "step": step,
        "total_steps": total,
        "success": latest_success(run),
        "steps_per_second": speed,
        "eta_seconds": left,
        "seconds_since_log": round(time.time() - run.last_written, 1) if run.last_written else None,
        "host": run.host,
        "problems": list(run.problems),
    }


def latest_success(run: Run) -> float | None:
    """Return the mean success rate over tasks at the newest evaluation, or None before the first."""
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
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("step", "success", "steps/s", "ETA"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("host")
    common = _common_prefix([row["run"] for row in rows])
    for row in rows:
        total = row["total_steps"]
        share = f" ({100 * row['step'] / total:.0f}%)" if total else ""
        table.add_row(
            Text(row["run"][len(common) :]),
            Text(row["state"], style=_COLOURS.get(row["state"], "")),
            f"{count(row['step'])}{' / ' + count(total) if total else ''}{share}",
            "-" if row["success"] is None else f"{100 * row['success']:.1f}%",
            "-" if not row["steps_per_second"] else f"{row['steps_per_second']:,.0f}",
            "-" if row["eta_seconds"] is None else duration(row["eta_seconds"]),
            Text(row["host"]),
        )
    return table


def count(steps: float) -> str:
    """Return a number of steps in the short form of the field: 500, 20k, 1.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if steps >= 0.9995 * size:
            return f"{steps / size:.3g}{unit}"
    return f"{steps:.0f}"


def duration(seconds: float) -> str:
    """Return a time in the two units that matter: 2d 3h, 1h 20min, 3min, 40s."""
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}min"
    if minutes < 24 * 60:
        return f"{minutes // 60}h {minutes % 60}min"
    hours = round(minutes / 60)
    return f"{hours // 24}d {hours % 24}h"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and return the exit code: 0, or 2 where no directory holds a run."""
    parser = argparse.ArgumentParser(
        prog="python -m mtrl.status", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "directories", nargs="*", default=["outputs"], metavar="DIR", help="runs, or what holds them"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a run instead of the table"
    )
    options = parser.parse_args(arguments)
    runs, problems = read_runs(options.directories)
    rows = [summary(run) for run in runs]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not rows:
        return 2
    for row in rows:
        for problem in row["problems"]:
            print(problem, file=sys.stderr)
    if options.json:
        for row in rows:
            print(json.dumps(row))
        return 0
    # A file or a pipe has no width: there, a row is one line however long.
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False)
    console.print(render(rows))
    states = Counter(row["state"] for row in rows)
    console.print(
        f"{len(rows)} runs: {', '.join(f'{number} {state}' for state, number in states.most_common())}"
    )
    return 0


def _last(run: Run, column: str) -> float | None:
    if column not in run.timing.columns or not len(run.timing):
        return None
    value = float(run.timing[column][-1])
    return value if math.isfinite(value) else None


def _common_prefix(paths: Sequence[str]) -> str:
    if len(paths) < 2:
        return ""
    parts = [path.split("/") for path in paths]
    shared = 0
    while all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    return "".join(f"{name}/" for name in parts[0][:shared])


if __name__ == "__main__":
    sys.exit(main())
