"""The tables of ``python -m mtrl.evaluation``: one run by task, a few side by side, many by their means."""

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
    """Print what one or more policies reached, how that was measured, and ``notes``."""
    # A file or a pipe has no width: there, a row is one line however long.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    if len(measured) == 1:
        console.print(_table_of_one(measured[0]))
    elif len(measured) <= _SIDE_BY_SIDE:
        console.print(_table_side_by_side(measured))
    else:
        console.print(_table_of_many(measured))
    # A name in brackets is no style of rich's.
    for line in (_protocol(measured), *_chosen(measured), *(f"note: {note}" for note in notes)):
        console.print(line, markup=False)


def _protocol(measured: Sequence["Measured"]) -> str:
    horizons = sorted({one.policy.setting.horizon for one in measured})
    number = measured[0].evaluation.results[0].episodes
    episodes = "1 episode" if number == 1 else f"{number} episodes"
    goals = " and ".join(dict.fromkeys(_goals(one) for one in measured))
    steps = " or ".join(map(str, horizons))
    usual = "" if horizons == [HORIZON] else f" (Meta-World's own horizon is {HORIZON})"
    return (
        f"{episodes} a task on {goals} goals, deterministic, {steps} steps, success at any of them; "
        f"brackets are Wilson's 95 % intervals{usual}"
    )


def _chosen(measured: Sequence["Measured"]) -> list[str]:
    """Return what to know of models that were chosen for what they reached."""
    if not any(one.policy.model.parent.name == CHECKPOINTS[0] for one in measured):
        return []
    return [
        "played is the best model of each run, chosen by the run's own evaluations, which flatters it on their "
        "goals; --checkpoint last plays the last one, which python -m mtrl.report shows"
    ]


def _goals(one: "Measured") -> str:
    return one.evaluation.results[0].goals


def _trained(one: "Measured") -> str:
    return "unknown" if one.policy.step is None else f"{one.policy.step:,}"


def _table_of_one(one: "Measured") -> Table:
    trained = "" if one.policy.step is None else f" after {one.policy.step:,} steps"
    table = Table(
        title=f"{one.name}{trained}, {_goals(one)} goals, {one.seconds:.1f} s", title_justify="left"
    )
    table.add_column("task")
    for column in ("success", "95 %", "return", "length", "episodes"):
        table.add_column(column, justify="right")
    for row in one.rows():
        numbers = (f"{row['mean_return']:,.0f}", f"{row['mean_length']:.0f}", str(row["episodes"]))
        table.add_row(row["task"], f"{row['success_rate']:.1%}", _interval(row), *numbers)
    if len(one.evaluation.results) > 1:
        table.add_section()
        evaluation = one.evaluation
        mean = (f"{evaluation.success_rate:.1%}", "", f"{evaluation.mean_return:,.0f}", "", "")
        table.add_row("mean", *mean)
    return table


def _table_side_by_side(measured: Sequence["Measured"]) -> Table:
    table = Table(title="success", title_justify="left")
    table.add_column("task")
    for one in measured:
        table.add_column(one.name, justify="right", overflow="fold")
    by_run = [{row["task"]: row for row in one.rows()} for one in measured]
    for task in dict.fromkeys(task for rows in by_run for task in rows):
        cells = [
            f"{rows[task]['success_rate']:.1%} {_interval(rows[task])}" if task in rows else "-"
            for rows in by_run
        ]
        table.add_row(task, *cells)
    table.add_section()
    table.add_row("mean", *(f"{one.evaluation.success_rate:.1%}" for one in measured))
    table.add_row("return", *(f"{one.evaluation.mean_return:,.0f}" for one in measured))
    table.add_row("trained steps", *map(_trained, measured))
    table.add_row("goals", *map(_goals, measured))
    return table


def _table_of_many(measured: Sequence["Measured"]) -> Table:
    table = Table(title="--csv and --json give every task", title_justify="left")
    table.add_column("run", overflow="fold")
    for column in ("success", "worst task", "return", "trained steps", "goals"):
        table.add_column(column, justify="right")
    for one in sorted(measured, key=lambda one: one.evaluation.score, reverse=True):
        worst = min(one.rows(), key=lambda row: row["success_rate"])
        table.add_row(
            one.name,
            f"{one.evaluation.success_rate:.1%}",
            f"{worst['task']} {worst['success_rate']:.1%} {_interval(worst)}",
            f"{one.evaluation.mean_return:,.0f}",
            _trained(one),
            _goals(one),
        )
    return table


def _interval(row: dict[str, Any]) -> str:
    return f"[{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
