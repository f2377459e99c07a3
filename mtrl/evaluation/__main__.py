"""The command ``python -m mtrl.evaluation RUN...``: play saved policies and compare what they reach."""

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from mtrl.errors import REFUSED
from mtrl.evaluation.protocol import Evaluation, evaluate
from mtrl.evaluation.sources import add_source_options, find_sources, read_source
from mtrl.hardware import available_cores
from mtrl.rundir.models import BEST
from mtrl.statistics import wilson_interval
from mtrl.tasks import GOALS, HORIZON

if TYPE_CHECKING:
    from mtrl.evaluation.policy import Policy

COPIES = 10
"""Copies of each task that play side by side: the policy answers all of them at once."""
_SIDE_BY_SIDE = 4
"""Runs that one table holds as columns; further runs get a table of their own."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One policy and what it reached."""

    name: str
    policy: "Policy"
    evaluation: Evaluation
    seconds: float

    @property
    def goals(self) -> str:
        """Which goals were played."""
        return self.evaluation.results[0].goals

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per task, with the ends of Wilson's 95 % interval of its success rate."""
        rows = []
        for result in self.evaluation.results:
            low, high = wilson_interval(result.success_rate * result.episodes, result.episodes)
            rows.append(asdict(result) | {"low": float(low), "high": float(high)})
        return rows

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        found = {name: getattr(self.policy, name) for name in ("step", "seed", "reward", "horizon")}
        found |= {name: getattr(self.evaluation, name) for name in ("success_rate", "mean_return")}
        facts = {"run": self.name, "model": str(self.policy.model), **found}
        return facts | {"seconds": round(self.seconds, 3), "tasks": self.rows()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate, print, and return the exit code: 0, or 2 if something could not be evaluated."""
    parser = argparse.ArgumentParser(
        prog="python -m mtrl.evaluation",
        description="Play the policies of runs by the protocol: deterministic, each goal in turn, full episodes. "
        "A run's best model plays, or its last one with --checkpoint last; python -m mtrl.report shows what the "
        "last one reached. Several runs are ranked.",
    )
    add_source_options(parser, several=True)
    parser.add_argument(
        "--episodes", type=int, default=GOALS, help=f"of each task; {GOALS}, the official evaluation"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    form.add_argument("--csv", action="store_true", help="print CSV, one row a run and task")
    options = parser.parse_args(arguments)
    if options.episodes < 1:
        parser.error("--episodes: an evaluation needs at least 1 episode")
    import torch

    torch.set_num_threads(max(1, available_cores() // 2))
    sources, problems = find_sources(options.runs)
    measured: list[Measured] = []
    for source in sources:
        try:
            policy, started = read_source(source, options), time.perf_counter()
            goals = policy.goals_to_play(options.goals)
            with closing(policy.make_env(min(COPIES, options.episodes), goals)) as env:
                evaluation = evaluate(policy.act, env, policy.tasks, options.episodes, goals)
        except ValueError as error:
            problems.append(str(error))
        else:
            measured.append(Measured(source.rstrip("/"), policy, evaluation, time.perf_counter() - started))
    notes = _notes(measured)
    for sentence in (*problems, *notes):
        print(f"mtrl: {sentence}", file=sys.stderr)
    if options.json:
        print(json.dumps({"runs": [one.as_json() for one in measured], "problems": problems, "notes": notes}))
    elif options.csv:
        columns = ("run", "step", "task", "goals", "episodes")
        columns += ("success_rate", "low", "high", "mean_return", "mean_length")
        writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        writer.writeheader()
        for one in measured:
            writer.writerows({"run": one.name, "step": one.policy.step, **row} for row in one.rows())
    elif measured:
        _show(measured, notes)
    return REFUSED if problems else 0


def _notes(measured: Sequence[Measured]) -> list[str]:
    """Return what a reader of the figures must know: other versions, and whatever sets the runs' protocols apart."""
    found = [one.policy.version_note(one.name) for one in measured]
    notes = [note for note in found if note is not None]
    for what, of in (
        ("rewards, so returns do not compare", lambda one: one.policy.reward),
        ("horizons, so nothing compares", lambda one: one.policy.horizon),
        ("goals, so success rates do not compare", lambda one: one.goals),
        ("tasks, so means do not compare", lambda one: sorted(one.policy.tasks)),
    ):
        values = list(dict.fromkeys(str(of(one)) for one in measured))
        if len(values) > 1:
            notes.append(f"the runs have different {what}: {' and '.join(values)}")
    return notes


def _show(measured: Sequence[Measured], notes: Sequence[str]) -> None:
    """Print what policies reached, task by task and ranked, how that was measured, and ``notes``."""
    # A file or a pipe has no width: there, a row is one line however long. A name in brackets is no style of rich's.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    for start in range(0, len(measured), _SIDE_BY_SIDE):
        console.print(_by_task(measured[start : start + _SIDE_BY_SIDE]))
    console.print(_ranking(measured))
    horizons = sorted({one.policy.horizon for one in measured})
    number = measured[0].evaluation.results[0].episodes
    episodes = "1 episode" if number == 1 else f"{number} episodes"
    goals = " and ".join(dict.fromkeys(one.goals for one in measured))
    usual = "" if horizons == [HORIZON] else f" (Meta-World's own horizon is {HORIZON})"
    console.print(
        f"{episodes} a task on {goals} goals, deterministic, {' or '.join(map(str, horizons))} steps, success at any "
        f"of them; brackets are Wilson's 95 % intervals{usual}"
    )
    if any(one.policy.model.parent.name == BEST for one in measured):
        console.print(
            "played is the best model of each run, chosen by the run's own evaluations, which flatters it on their "
            "goals; --checkpoint last plays the last model, which python -m mtrl.report shows"
        )
    for note in notes:
        console.print(f"note: {note}")


def _by_task(measured: Sequence[Measured]) -> Table:
    table = Table("task")
    for one in measured:
        table.add_column(one.name, justify="right", overflow="fold")
        table.add_column("return", justify="right")
    by_run = [{row["task"]: row for row in one.rows()} for one in measured]
    for task in dict.fromkeys(task for rows in by_run for task in rows):
        found = [rows.get(task) for rows in by_run]
        pairs = [(_success(row), f"{row['mean_return']:,.0f}") if row else ("-", "-") for row in found]
        table.add_row(task, *(cell for pair in pairs for cell in pair))
    return table


def _ranking(measured: Sequence[Measured]) -> Table:
    """Return a row a run, best first: the mean over its tasks, and the task at which it succeeds least."""
    table = Table()
    for column in ("run", "mean success", "mean return", "worst task", "trained steps", "goals", "time"):
        table.add_column(column, justify="left" if column == "run" else "right", overflow="fold")
    for one in sorted(measured, key=lambda one: one.evaluation.score, reverse=True):
        worst = min(one.rows(), key=lambda row: row["success_rate"])
        steps = "unknown" if one.policy.step is None else f"{one.policy.step:,}"
        means = f"{one.evaluation.success_rate:.1%}", f"{one.evaluation.mean_return:,.0f}"
        cells = (*means, f"{worst['task']} {_success(worst)}", steps, one.goals, f"{one.seconds:.1f} s")
        table.add_row(one.name, *cells)
    return table


def _success(row: dict[str, Any]) -> str:
    return f"{row['success_rate']:.1%} [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"


if __name__ == "__main__":
    sys.exit(main())
