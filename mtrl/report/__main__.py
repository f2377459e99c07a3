"""The command ``python -m mtrl.report [DIR...] [--out DIR] [--reference]``."""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mtrl.errors import REFUSED
from mtrl.packages import installed
from mtrl.rundir.run import find_runs, read_runs
from mtrl.status import count
from mtrl.streams import run_command
from mtrl.text import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report and return the exit code: 0, or 2 with one sentence where there is no run.

    Where there is no run at all, ``--reference`` prints what was published.
    """
    parser = argparse.ArgumentParser(
        prog="python -m mtrl.report",
        description="Compare runs: learning curves, intervals, thresholds, forgetting, throughput. The report shows "
        "what the runs logged, and their last model at the end; python -m mtrl.evaluation plays the best one.",
    )
    where = "runs, directories that hold runs, or the directory of a sweep; outputs by default"
    parser.add_argument("directories", nargs="*", metavar="DIR", help=where)
    place = "where to write; report/ under the given directory by default"
    parser.add_argument("--out", type=Path, help=place)
    beside = "set published results beside ours; without DIR and without runs, print them alone"
    parser.add_argument("--reference", action="store_true", help=beside)
    parser.add_argument("--at-step", type=float, help="use nothing after this environment step")
    rates = {"type": float, "nargs": "+", "default": (0.5, 0.8, 0.95), "metavar": "RATE"}
    parser.add_argument("--thresholds", **rates, help="success rates from 0 to 1")
    options = parser.parse_args(arguments)
    directories = options.directories or ["outputs"]
    if options.reference and not options.directories and not find_runs(directories)[0]:
        _print_published()
        return 0
    if missing := [name for name in ("matplotlib", "jinja2") if not installed(name)]:
        return _refuse(f"{missing[0]} is missing: install it with pip install 'mtrl-metaworld[report]'")
    if not all(0 < threshold <= 1 for threshold in options.thresholds):
        return _refuse("a threshold is a success rate: give numbers above 0 and up to 1, such as 0.8")
    until = options.at_step
    if until is not None and not (math.isfinite(until) and until > 0):
        return _refuse(f"--at-step {until:g} is no number of environment steps: give one such as 1e6")
    runs, problems = read_runs(directories)
    if not runs:
        return _refuse(*problems)
    # A directory that does not exist must not decide where the report goes.
    root = Path(os.path.commonpath([os.path.abspath(path) for path in directories if find_runs([path])[0]]))
    if options.out is None and root == Path(root.anchor):
        return _refuse("the directories have nothing in common: say where the report goes with --out DIR")
    from mtrl.report.page import write_report
    from mtrl.report.study import build_study

    study, out = build_study(runs, problems, until), options.out or root / "report"
    # A link that the user names is meant; one in somebody's directory is not followed.
    out = out.resolve() if options.out and out.is_symlink() else out
    try:
        page = write_report(study, out, f"Report on {root.name}", options.thresholds, options.reference)
    except OSError as error:
        return _refuse(f"{out} cannot be written ({error.strerror}): choose another place with --out DIR")
    if not any(comparison.kinds for comparison in study.comparisons):
        print(
            "no run has a complete evaluation yet: the report shows settings and speed alone", file=sys.stderr
        )
    for notice in (*study.notices, *(notice for part in study.comparisons for notice in part.notices)):
        print(f"note: {printable(notice)}", file=sys.stderr)
    print(printable(page))
    return 0


def _refuse(*sentences: str) -> int:
    print(*map(printable, sentences), sep="\n", file=sys.stderr)
    return REFUSED


def _print_published() -> None:
    """Print all published results, the task sets in turn and the best of each first."""
    from rich.console import Console
    from rich.table import Table

    from mtrl.report.tables import published

    columns = ("set", "method", "success", "", "steps", "protocol", "source")
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for one in published():
        steps = count(one.steps)
        table.add_row(one.set, one.method, one.figure, one.aggregate, steps, one.protocol, one.source)
    # A file or a pipe has no width: there, a row is one line however long.
    Console(width=None if sys.stdout.isatty() else 250, highlight=False).print(table)


if __name__ == "__main__":
    run_command(main)
