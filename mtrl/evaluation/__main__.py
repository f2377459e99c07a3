"""The command ``python -m mtrl.evaluation RUN...``: play saved policies and compare what they reach."""

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from mtrl.errors import REFUSED, RunEndedError
from mtrl.evaluation.protocol import evaluate
from mtrl.evaluation.sources import add_source_options, find_sources, read_source
from mtrl.hardware import available_cores
from mtrl.rundir.models import BEST
from mtrl.statistics import wilson_interval
from mtrl.streams import run_command
from mtrl.tasks import GOALS, HORIZON
from mtrl.text import printable

if TYPE_CHECKING:
    from mtrl.evaluation.policy import Policy

COPIES = 10
"""Copies of each task that play side by side: the policy answers all of them at once."""
_SIDE_BY_SIDE = 4
"""Runs that one table holds as columns; further runs get a table of their own."""

Measured = dict[str, Any]
"""What is known of one policy and what it reached: its entry in the JSON, with a row for each of its ``tasks``."""


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
    measured, notes = [], []
    for source in sources:
        try:
            policy, said = read_source(source, options)
            measured.append(_measure(source.rstrip("/"), policy, options.episodes))
            notes += said
        except (RunEndedError, ValueError) as error:
            problems.append(str(error))
    notes += _notes(measured)
    for sentence in (*problems, *notes):
        print(f"mtrl: {printable(sentence)}", file=sys.stderr)
    if options.json:
        print(json.dumps({"runs": measured, "problems": problems, "notes": notes}))
    elif options.csv:
        columns = ("run", "step", "task", "goals", "episodes")
        columns += ("success_rate", "low", "high", "mean_return", "mean_length")
        writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        writer.writeheader()
        for one in measured:
            known = {"run": printable(one["run"]), "step": one["step"]}
            writer.writerows(known | row for row in one["tasks"])
    elif measured:
        _show(measured, notes)
    return REFUSED if problems else 0


def _measure(name: str, policy: "Policy", episodes: int) -> Measured:
    """Play one policy and return the outcome, each task with Wilson's 95 % interval."""
    started = time.perf_counter()
    with closing(policy.make_env(min(COPIES, episodes))) as env:
        played = evaluate(policy.act, env, policy.tasks, episodes, policy.goals)
    found = {"run": name, "model": str(policy.model)}
    found |= {key: getattr(policy, key) for key in ("step", "seed", "reward", "horizon")}
    found |= {key: getattr(played, key) for key in ("success_rate", "mean_return")}
    found["seconds"], found["tasks"] = round(time.perf_counter() - started, 3), []
    for result in played.results:
        low, high = wilson_interval(result.success_rate * result.episodes, result.episodes)
        found["tasks"].append(asdict(result) | {"low": float(low), "high": float(high)})
    return found


def _notes(measured: Sequence[Measured]) -> list[str]:
    """Return whatever sets the protocols of the runs apart."""
    notes = []
    for what, of in (
        ("rewards, so returns do not compare", lambda one: one["reward"]),
        ("horizons, so nothing compares", lambda one: one["horizon"]),
        ("goals, so success rates do not compare", lambda one: one["tasks"][0]["goals"]),
        ("tasks, so means do not compare", lambda one: sorted(row["task"] for row in one["tasks"])),
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
        shown = measured[start : start + _SIDE_BY_SIDE]
        table = Table("task")
        for one in shown:
            table.add_column(printable(one["run"]), justify="right", overflow="fold")
            table.add_column("return", justify="right")
        by_run = [{row["task"]: row for row in one["tasks"]} for one in shown]
        for task in dict.fromkeys(task for rows in by_run for task in rows):
            found = [rows.get(task) for rows in by_run]
            pairs = [(_success(row), f"{row['mean_return']:,.0f}") if row else ("-", "-") for row in found]
            table.add_row(task, *(cell for pair in pairs for cell in pair))
        console.print(table)
    ranking = Table()
    for column in ("run", "mean success", "mean return", "worst task", "trained steps", "goals", "time"):
        ranking.add_column(column, justify="left" if column == "run" else "right", overflow="fold")
    for one in sorted(measured, key=lambda one: (one["success_rate"], one["mean_return"]), reverse=True):
        worst = min(one["tasks"], key=lambda row: row["success_rate"])
        steps = "unknown" if one["step"] is None else f"{one['step']:,}"
        means = f"{one['success_rate']:.1%}", f"{one['mean_return']:,.0f}"
        cells = f"{worst['task']} {_success(worst)}", steps, worst["goals"], f"{one['seconds']:.1f} s"
        ranking.add_row(printable(one["run"]), *means, *cells)
    console.print(ranking)
    horizons = sorted({one["horizon"] for one in measured})
    number = measured[0]["tasks"][0]["episodes"]
    episodes = "1 episode" if number == 1 else f"{number} episodes"
    goals = " and ".join(dict.fromkeys(one["tasks"][0]["goals"] for one in measured))
    usual = "" if horizons == [HORIZON] else f" (Meta-World's own horizon is {HORIZON})"
    console.print(
        f"{episodes} a task on {goals} goals, deterministic, {' or '.join(map(str, horizons))} steps, success at any "
        f"of them; brackets are Wilson's 95 % intervals{usual}"
    )
    if any(Path(one["model"]).parent.name == BEST for one in measured):
        console.print(
            "played is the best model of each run, chosen by the run's own evaluations, which flatters it on their "
            "goals; --checkpoint last plays the last model, which python -m mtrl.report shows"
        )
    for note in notes:
        console.print(f"note: {printable(note)}")


def _success(row: dict[str, Any]) -> str:
    return f"{row['success_rate']:.1%} [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"


if __name__ == "__main__":
    run_command(main)
