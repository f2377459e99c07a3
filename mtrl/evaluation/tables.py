"""The tables of ``python -m mtrl.evaluation``: a few runs side by side by task, many by their means."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from mtrl.rundir.models import CHECKPOINTS
from mtrl.tasks import HORIZON

if TYPE_CHECKING:
    from mtrl.evaluation.__main__ import Measured

_SIDE_BY_SIDE = 4
"""Runs that one table holds as columns."""


def show(measured: Sequence["Measured"], notes: Sequence[str] = ()) -> None:
    """Print what policies reached, how that was measured, and ``notes``."""
    # A file or a pipe has no width: there, a row is one line however long. A name in brackets is no style of rich's.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(_by_task(measured) if len(measured) <= _SIDE_BY_SIDE else _by_run(measured))
    console.print(_protocol(measured))
    if any(one.policy.model.parent.name == CHECKPOINTS[0] for one in measured):
        console.print(
            "played is the best model of each run, chosen by the run's own evaluations, which flatters it on their "
            "goals; --checkpoint last plays the last one, which python -m mtrl.report shows"
        )
    for note in notes:
        console.print(f"note: {note}")


def _protocol(measured: Sequence["Measured"]) -> str:
    horizons = sorted({one.policy.setting.horizon for one in measured})
    number = measured[0].evaluation.results[0].episodes
    episodes = "1 episode" if number == 1 else f"{number} episodes"
    goals = " and ".join(dict.fromkeys(one.goals for one in measured))
    usual = "" if horizons == [HORIZON] else f" (Meta-World's own horizon is {HORIZON})"
    return (
        f"{episodes} a task on {goals} goals, deterministic, {' or '.join(map(str, horizons))} steps, success at any "
        f"of them; brackets are Wilson's 95 % intervals{usual}"
    )


def _by_task(measured: Sequence["Measured"]) -> Table:
    table = Table()
    table.add_column("task")
    for one in measured:
        table.add_column(one.name, justify="right", overflow="fold")
        table.add_column("return", justify="right")
    by_run = [{row["task"]: row for row in one.rows()} for one in measured]
    for task in dict.fromkeys(task for rows in by_run for task in rows):
        found = [rows.get(task) for rows in by_run]
        pairs = [(_success(row), f"{row['mean_return']:,.0f}") if row else ("-", "-") for row in found]
        table.add_row(task, *(cell for pair in pairs for cell in pair))
    table.add_section()
    for name, of in (
        ("mean", lambda one: (f"{one.evaluation.success_rate:.1%}", f"{one.evaluation.mean_return:,.0f}")),
        ("trained steps", lambda one: (_trained(one), "")),
        ("goals", lambda one: (one.goals, "")),
        ("time", lambda one: (f"{one.seconds:.1f} s", "")),
    ):
        table.add_row(name, *(cell for one in measured for cell in of(one)))
    return table


def _by_run(measured: Sequence["Measured"]) -> Table:
    table = Table(title="--csv and --json give every task", title_justify="left")
    table.add_column("run", overflow="fold")
    for column in ("success", "worst task", "return", "trained steps", "goals"):
        table.add_column(column, justify="right")
    for one in sorted(measured, key=lambda one: one.evaluation.score, reverse=True):
        worst = min(one.rows(), key=lambda row: row["success_rate"])
        table.add_row(
            one.name,
            f"{one.evaluation.success_rate:.1%}",
            f"{worst['task']} {_success(worst)}",
            f"{one.evaluation.mean_return:,.0f}",
            _trained(one),
            one.goals,
        )
    return table


def _trained(one: "Measured") -> str:
    return "unknown" if one.policy.step is None else f"{one.policy.step:,}"


def _success(row: dict[str, Any]) -> str:
    return f"{row['success_rate']:.1%} [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
