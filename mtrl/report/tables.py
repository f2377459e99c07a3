"""The tables of a report: what stands in which row, and how a table becomes CSV."""

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtrl.config.values import flatten
from mtrl.report import analysis
from mtrl.report.analysis import Pair, Result
from mtrl.report.published import Published
from mtrl.report.study import (
    FEW_SEEDS,
    GOALS,
    Comparison,
    Group,
    Study,
    differing_keys,
    learning_settings,
    plural,
    setting_text,
)
from mtrl.status import count, duration

_NOTICEABLE = 0.1
"""A loss of success beyond ten points is marked."""

_MANY_RUNS = 12
"""The page shows a longer list of runs folded."""


class Cell(NamedTuple):
    """What a cell shows, and the numbers behind it."""

    text: str
    value: Any = None
    """What CSV holds: a plain value, or several by name (one column each); the text if None."""
    series: int | None = None
    """The group's place, which gives the cell its coloured mark."""
    alarm: bool = False
    """Whether it is marked."""


DASH = Cell("–")
"""An empty cell."""


class Table:
    """One table; its rows all have the same columns, the first of which names the row.

    Args:
        name: Stem of its CSV file.
        title: Its heading.
        rows: Cells by the heading of their column: a cell, a group, a whole number, a text, or None for a dash.
        note: How to read it, one or two sentences.
        folded: Whether the page shows it closed.
    """

    def __init__(
        self, name: str, title: str, rows: Iterable[Mapping[str, Any]], note: str = "", folded: bool = False
    ) -> None:
        self.name, self.title, self.note, self.folded = name, title, note, folded
        self.rows = [{column: _cell(value) for column, value in row.items()} for row in rows]
        self.files = [f"tables/{name}.csv"]

    def numeric(self, column: str) -> bool:
        """Return whether a column holds numbers, which stand at its right."""
        values = [row[column].value for row in self.rows if row[column].value is not None]
        return bool(values) and not any(isinstance(value, str) for value in values)

    def write(self, out: Path) -> None:
        """Write the values behind the table as CSV."""
        parts = []
        for column in self.rows[0]:
            values = [row[column].value for row in self.rows]
            names = dict.fromkeys(name for value in values if isinstance(value, dict) for name in value)
            parts += [(column, name) for name in names or [""]]
        rows = ([_value(row[column], part) for column, part in parts] for row in self.rows)
        write_csv(out / self.files[0], [f"{column} {part}".strip() for column, part in parts], rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write lines of CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _cell(value: Any) -> Cell:
    if isinstance(value, Cell):
        return value
    if isinstance(value, Group):
        return Cell(value.label, series=value.series)
    if value is None or value == "":
        return DASH
    return Cell(str(value), value if isinstance(value, int) else None)


def _value(cell: Cell, part: str) -> Any:
    if isinstance(cell.value, dict):
        return cell.value.get(part)
    if part or cell == DASH:
        return None
    return cell.text if cell.value is None else cell.value


def _percent(rate: float | None, interval: Sequence[float] | None = None) -> Cell:
    """Return a rate as a percentage, with its interval where there is one."""
    if rate is None:
        return DASH
    text = f"{100 * rate:.1f} %"
    if interval is None:
        return Cell(text, round(float(rate), 6))
    low, high = interval
    text += f"  [{100 * low:.1f}, {100 * high:.1f}]"
    return Cell(text, {name: round(float(v), 6) for name, v in (("", rate), ("low", low), ("high", high))})


def _number(value: float | None) -> Cell:
    """Return a number as text of a fitting length, a dash for none."""
    if value is None or not math.isfinite(value):
        return DASH
    return Cell(f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}", round(float(value), 4))


def _points(difference: float, alarm: bool = False) -> Cell:
    return Cell(f"{100 * difference:+.1f} points", round(difference, 6), alarm=alarm)


def _time(seconds: float | None) -> Cell:
    return DASH if seconds is None else Cell(duration(seconds), round(seconds, 1))


def _steps(steps: float) -> Cell:
    return Cell(count(steps), steps)


def result_table(comparison: Comparison, goals: str, results: Sequence[Result]) -> Table:
    """Return the final success of every group."""
    rows = []
    for result in results:
        low, high = result.steps
        steps = count(low) if low == high else f"{count(low)} to {count(high)}"
        sampled = analysis.mean_logged(result.group, "training", "success_rate", lambda rates: rates[-1])
        rows.append(
            {
                "group": result.group,
                "seeds": Cell(str(result.seeds), result.seeds, alarm=result.seeds < FEW_SEEDS),
                "steps": Cell(steps, {"from": low, "to": high}),
                "episodes a task": result.episodes,
                "IQM": _percent(result.interquartile_mean, result.interquartile_interval),
                "mean": _percent(result.mean, result.mean_interval),
                "worst task": _percent(float(result.tasks.min())),
                "sampled policy": _percent(sampled),
            }
        )
    note = (
        "Success rate of the deterministic policy, in full episodes, at the newest evaluation of each run. "
        "IQM is the mean of the middle half of all runs and tasks; brackets are stratified bootstrap 95 % "
        "intervals over seeds. The last column is the success of training episodes, with sampled actions. "
        "The table shows the last model, not the best one; python -m mtrl.evaluation plays the best one."
    )
    return Table(f"{comparison.slug}-{goals}-results", f"Final success on {GOALS[goals]}", rows, note)


def task_table(comparison: Comparison, goals: str, results: Sequence[Result]) -> Table:
    """Return success, return and length per task and group."""
    rows = [
        {
            "task": task,
            "group": result.group,
            "success": _percent(result.tasks[i], (result.low[i], result.high[i])),
            "return": _number(result.returns[i]),
            "length": _number(result.lengths[i]),
        }
        for i, task in enumerate(comparison.tasks)
        for result in results
    ]
    note = (
        "Brackets are Wilson 95 % intervals over all episodes: they do not contain the spread between seeds."
    )
    title = f"Each task on {GOALS[goals]}"
    return Table(f"{comparison.slug}-{goals}-tasks", title, rows, note, folded=True)


def threshold_table(comparison: Comparison, goals: str, thresholds: Sequence[float]) -> Table:
    """Return environment steps and time to each threshold of mean success."""
    rows = []
    for group in comparison.evaluated(goals):
        row: dict[str, Any] = {"group": group}
        for threshold in thresholds:
            found = analysis.reached(group, goals, threshold)
            text = DASH.text if found["steps"] is None else count(found["steps"])
            if found["seconds"] is not None:
                text += f", {duration(found['seconds'])}"
            if 0 < found["runs"] < found["of"]:
                text += f" ({found['runs']} of {found['of']} runs)"
            row[f"{100 * threshold:g} %"] = Cell(text, found)
        rows.append(row)
    note = (
        "First evaluation whose mean success over tasks is at least this: environment steps and wall-clock "
        "time of training, medians over the runs that got there."
    )
    title = "Steps and time to a success rate"
    return Table(f"{comparison.slug}-{goals}-thresholds", title, rows, note)


def pair_table(comparison: Comparison, goals: str, pairs: Sequence[Pair]) -> Table:
    """Return how the groups do against each other."""
    rows = [
        {
            "group": pair.first,
            "over": pair.second,
            "probability of improvement": _percent(pair.probability, pair.interval),
            "mean lead while learning": None if pair.lead is None else _points(pair.lead),
        }
        for pair in pairs
    ]
    note = (
        "Chance that a run of the first beats one of the second on a task, averaged over tasks, ties "
        "counting half. The lead is the area between the two learning curves over their common steps."
    )
    return Table(f"{comparison.slug}-{goals}-pairs", "One group against another", rows, note)


def forgetting_table(comparison: Comparison, goals: str) -> Table:
    """Return how far each task fell from its best."""
    names = [*comparison.tasks, *(["mean"] if len(comparison.tasks) > 1 else [])]
    rows: list[dict[str, Any]] = [{"task": name} for name in names]
    for group in comparison.evaluated(goals):
        drops = analysis.forgetting(group, goals)
        for row, drop in zip(rows, [*drops, drops.mean()], strict=False):
            row[group.label] = Cell(f"{100 * drop:.1f}", round(float(drop), 6), alarm=drop > _NOTICEABLE)
    note = (
        "Percentage points between the best success so far (mean of three evaluations in a row) and the "
        "last, mean over seeds. A few points are the noise of evaluation."
    )
    return Table(f"{comparison.slug}-{goals}-forgetting", "Forgetting", rows, note, folded=True)


def transfer_table(comparison: Comparison) -> Table:
    """Return the success on the source's tasks before and after training; without rows where nothing is known."""
    rows = []
    for group in comparison.groups:
        for task, rates in analysis.kept_skills(group).items():
            before, after = np.mean(rates, axis=0).tolist()
            rows.append(
                {
                    "group": group,
                    "task of the source": task,
                    "seeds": len(rates),
                    "before": _percent(before),
                    "after": _percent(after),
                    "change": _points(after - before, alarm=before - after > _NOTICEABLE),
                }
            )
    note = (
        "Success of the deterministic policy on the tasks of the run that training began from: before the "
        "first update, which is what the source could do, and at the end. Means over seeds."
    )
    return Table(f"{comparison.slug}-transfer", "What was kept of the source", rows, note)


def reference_table(
    comparison: Comparison, results: Mapping[str, Sequence[Result]], published: Sequence[Published]
) -> Table:
    """Return our groups and published results on the same task set, each with its protocol."""
    rows: list[dict[str, Any]] = [
        {
            "method": Cell(f"this report: {result.group.label}", series=result.group.series),
            "IQM": _percent(result.interquartile_mean, result.interquartile_interval),
            "mean": _percent(result.mean, result.mean_interval),
            "steps": _steps(result.steps[1]),
            "protocol": _own_protocol(comparison, goals, result),
            "source": "measured here",
        }
        for goals, found in results.items()
        for result in found
    ]
    for entry in published:
        low, high = entry.success
        success = Cell(entry.figure, {"": (low + high) / 2, "low": low, "high": high})
        rows.append(
            {
                "method": entry.method,
                "IQM": success if entry.aggregate == "IQM" else None,
                "mean": None if entry.aggregate == "IQM" else success,
                "steps": _steps(entry.steps),
                "protocol": entry.protocol,
                "source": entry.source,
            }
        )
    note = (
        "Figures of other protocols are measured differently: reward version, goals, horizon, policy and "
        "simulator are named, and a difference in them can outweigh a difference in method."
    )
    return Table(f"{comparison.slug}-reference", "Beside published results", rows, note)


def _own_protocol(comparison: Comparison, goals: str, result: Result) -> str:
    what = f"{comparison.reward} reward, {result.episodes} episodes a task, {GOALS[goals]}, deterministic"
    words = f"{what}, horizon {comparison.horizon}, success at any step, {plural(result.seeds, 'seed')}"
    settings = result.group.settings
    transferred = settings.get("transfer.source") or settings.get("transfer.train")
    return f"{words}; steps without its source's" if transferred else words


def throughput_table(study: Study) -> Table:
    """Return the speed of every group and where its time went."""
    rows = []
    for name, group in study.groups():
        timed = [(member.run.step, member.run.seconds) for member in group.members if member.run.seconds]
        speeds = [step / seconds for step, seconds in timed]
        row = {
            "group": Cell(name, series=group.series),
            "steps/s": _number(sum(speeds) / len(speeds) if speeds else None),
            "slowest": _number(min(speeds, default=None)),
            "fastest": _number(max(speeds, default=None)),
        }
        for part in ("environment", "learning", "evaluation"):
            share = analysis.mean_logged(group, "timing", part, np.mean)
            row[part] = DASH if share is None else Cell(f"{100 * share:.0f} %", round(share, 4))
        row["time, all runs"] = _time(sum(seconds for _, seconds in timed) if timed else None)
        row["machine"] = ", ".join(sorted({member.run.host for member in group.members} - {""}))
        rows.append(row)
    note = "Environment steps per second of wall-clock time over whole runs, restarts included; their mean."
    return Table("throughput", "Throughput", rows, note)


def run_table(study: Study) -> Table:
    """Return every run with its state."""
    places = {
        id(member.run): (f"{comparison.heading}: {group.label}", group.series)
        for comparison in study.comparisons
        for group in comparison.groups
        for member in group.members
    }
    rows = []
    for run in study.runs:
        name, series = places.get(id(run), ("left out", None))
        total = run.total_steps
        steps = f"{count(run.step)} of {count(total)}" if total else count(run.step)
        rows.append(
            {
                "run": Cell(str(run.path), series=series),
                "group": name,
                "seed": run.seed,
                "state": Cell(run.state, alarm=run.state not in ("finished", "running")),
                "steps": Cell(steps, {"": run.step, "of": total}),
                "time": _time(run.seconds),
                "starts": len(run.starts),
                "machine": run.host,
                "version": run.version,
            }
        )
    return Table("runs", "Runs", rows, folded=len(rows) > _MANY_RUNS)


def settings_table(study: Study) -> Table:
    """Return the settings in which the groups differ."""
    groups = study.groups()
    rows = [
        {"setting": key}
        | {
            name: setting_text(group.settings[key]) if key in group.settings else None
            for name, group in groups
        }
        for key in differing_keys([group.settings for _, group in groups])
    ]
    note = "Settings that change what is learned and that differ between groups; all others are equal."
    return Table("settings", "Differences in the configuration", rows, note)


def common_settings_table(study: Study) -> Table:
    """Return the settings that all runs share."""
    first, *others = (learning_settings(run) for run in study.runs)
    rows = [
        {"setting": key, "value": setting_text(value)}
        for key, value in first.items()
        if all(key in settings and repr(settings[key]) == repr(value) for settings in others)
    ]
    return Table("common-settings", "Settings that all runs share", rows, folded=True)


def environment_table(study: Study) -> Table:
    """Return versions and machines, with the number of runs that each value holds for."""
    found: dict[str, Counter[str]] = {}
    for run in study.runs:
        for key, value in flatten(run.environment).items():
            if not {"command", "time"} & set(key.split(".")):
                found.setdefault(key, Counter())[setting_text(value)] += 1
    total = len(study.runs)
    rows = [
        {
            "what": key,
            "value": Cell(value, alarm=len(values) > 1),
            "runs": "all" if number == total else f"{number} of {total} runs",
        }
        for key, values in found.items()
        for value, number in values.items()
    ]
    return Table("versions", "Versions and machines", rows, folded=True)
