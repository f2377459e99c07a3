"""The tables of a report: what stands in which row, and how a table becomes CSV."""

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtrl.config.values import flatten
from mtrl.report import analysis, study
from mtrl.report.analysis import Pair, Result
from mtrl.report.published import Published
from mtrl.report.study import GOALS, Comparison, Group, Study, setting_text
from mtrl.rundir.run import Run
from mtrl.status import count, duration

_WORDS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
"""Titles of tables and figures, and notes on how to read them."""
_NOTICEABLE = 0.1
"""A loss of success beyond ten points is marked."""
_MANY_RUNS = 12
"""The page shows a longer list of runs folded."""


class Piece:
    """A table or a figure: its name (the stem of its files), its title, and a note on how to read it."""

    def __init__(self, kind: str, comparison: Comparison | None, goals: str | None) -> None:
        words = _WORDS[kind]
        parts = (comparison and comparison.slug, goals, kind.removesuffix(" figure"))
        self.name = "-".join(filter(None, parts))
        self.title: str = words["title"].format(goals=goals and GOALS[goals])
        self.note: str = words["note"]


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


class Table(Piece):
    """One table; its rows all have the same columns, the first of which names the row.

    ``rows`` hold by the heading of their column a cell, a group, a whole number, a text, or None for a dash; a
    ``folded`` table is closed on the page.
    """

    def __init__(
        self,
        kind: str,
        rows: Iterable[Mapping[str, Any]],
        comparison: Comparison | None = None,
        goals: str | None = None,
        folded: bool = False,
    ) -> None:
        super().__init__(kind, comparison, goals)
        self.rows = [{column: _cell(value) for column, value in row.items()} for row in rows]
        self.folded, self.files = folded, [f"tables/{self.name}.csv"]

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
    return DASH if value in (None, "") else Cell(str(value), value if isinstance(value, int) else None)


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


def _number(value: float | None, digits: int = 4, write: Callable[[float], str] | None = None) -> Cell:
    """Return a number as ``write`` words it, by default with a fitting length; a dash for none."""
    if value is None or not math.isfinite(value):
        return DASH
    text = write(value) if write else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
    return Cell(text, round(float(value), digits))


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f} points"


def result_table(comparison: Comparison, goals: str, results: Sequence[Result]) -> Table:
    """Return the final success of every group."""
    rows = []
    for result in results:
        low, high = result.steps
        steps = " to ".join(dict.fromkeys((count(low), count(high))))
        sampled = analysis.mean_logged(result.group, "training", "success_rate", lambda rates: rates[-1])
        rows.append(
            {
                "group": result.group,
                "seeds": Cell(str(result.seeds), result.seeds, alarm=result.seeds < study.FEW_SEEDS),
                "steps": Cell(steps, {"from": low, "to": high}),
                "episodes a task": result.episodes,
                "IQM": _percent(result.interquartile_mean, result.interquartile_interval),
                "mean": _percent(result.mean, result.mean_interval),
                "worst task": _percent(result.tasks.min()),
                "sampled policy": _percent(sampled),
            }
        )
    return Table("results", rows, comparison, goals)


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
    return Table("tasks", rows, comparison, goals, folded=True)


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
    return Table("thresholds", rows, comparison, goals)


def pair_table(comparison: Comparison, goals: str, pairs: Sequence[Pair]) -> Table:
    """Return how the groups do against each other."""
    rows = [
        {
            "group": pair.first,
            "over": pair.second,
            "probability of improvement": _percent(pair.probability, pair.interval),
            "mean lead while learning": _number(pair.lead, 6, _points),
        }
        for pair in pairs
    ]
    return Table("pairs", rows, comparison, goals)


def forgetting_table(comparison: Comparison, goals: str) -> Table:
    """Return how far each task fell from its best."""
    names = [*comparison.tasks, *(["mean"] if len(comparison.tasks) > 1 else [])]
    rows: list[dict[str, Any]] = [{"task": name} for name in names]
    for group in comparison.evaluated(goals):
        drops = analysis.forgetting(group, goals)
        for row, drop in zip(rows, [*drops, drops.mean()], strict=False):
            row[group.label] = Cell(f"{100 * drop:.1f}", round(float(drop), 6), alarm=drop > _NOTICEABLE)
    return Table("forgetting", rows, comparison, goals, folded=True)


def transfer_table(comparison: Comparison) -> Table:
    """Return the success on the source's tasks before and after training; without rows where nothing is known."""
    rows = []
    for group in comparison.groups:
        for task, rates in analysis.kept_skills(group).items():
            before, after = np.mean(rates, axis=0).tolist()
            change = _number(after - before, 6, _points)._replace(alarm=before - after > _NOTICEABLE)
            row = {"group": group, "task of the source": task, "seeds": len(rates)}
            rows.append(row | {"before": _percent(before), "after": _percent(after), "change": change})
    return Table("transfer", rows, comparison)


def reference_table(
    comparison: Comparison, results: Mapping[str, Sequence[Result]], published: Sequence[Published]
) -> Table:
    """Return our groups and published results on the same task set, each with its protocol."""
    rows: list[dict[str, Any]] = [
        {
            "method": Cell(f"this report: {result.group.label}", series=result.group.series),
            "IQM": _percent(result.interquartile_mean, result.interquartile_interval),
            "mean": _percent(result.mean, result.mean_interval),
            "steps": Cell(count(result.steps[1]), result.steps[1]),
            "protocol": _own_protocol(comparison, goals, result),
            "source": "measured here",
        }
        for goals, found in results.items()
        for result in found
    ]
    for entry in published:
        low, high = entry.success
        success = Cell(entry.figure, {"": (low + high) / 2, "low": low, "high": high})
        row = {"method": entry.method, "IQM": None, "mean": None, entry.aggregate: success}
        row |= {"steps": Cell(count(entry.steps), entry.steps), "protocol": entry.protocol}
        rows.append(row | {"source": entry.source})
    return Table("reference", rows, comparison)


def _own_protocol(comparison: Comparison, goals: str, result: Result) -> str:
    what = f"{comparison.reward} reward, {result.episodes} episodes a task, {GOALS[goals]}, deterministic"
    seeds = study.plural(result.seeds, "seed")
    words = f"{what}, horizon {comparison.horizon}, success at any step, {seeds}"
    settings = result.group.settings
    transferred = settings.get("transfer.source") or settings.get("transfer.train")
    return f"{words}; steps without its source's" if transferred else words


def throughput_table(groups: Mapping[str, Group]) -> Table:
    """Return the speed of every group and where its time went."""
    rows = []
    for name, group in groups.items():
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
            row[part] = _number(share, 4, lambda share: f"{100 * share:.0f} %")
        row["time, all runs"] = _number(sum(seconds for _, seconds in timed) or None, 1, duration)
        row["machine"] = ", ".join(sorted({member.run.host for member in group.members} - {""}))
        rows.append(row)
    return Table("throughput", rows)


def run_table(whole: Study) -> Table:
    """Return every run with its state."""
    places = {
        member.run.path: (f"{comparison.heading}: {group.label}", group.series)
        for comparison in whole.comparisons
        for group in comparison.groups
        for member in group.members
    }
    rows = []
    for run in whole.runs:
        name, series = places.get(run.path, ("left out", None))
        total = run.total_steps
        steps = f"{count(run.step)} of {count(total)}" if total else count(run.step)
        rows.append(
            {
                "run": Cell(str(run.path), series=series),
                "group": name,
                "seed": run.seed,
                "state": Cell(run.state, alarm=run.state not in ("finished", "running")),
                "steps": Cell(steps, {"": run.step, "of": total}),
                "time": _number(run.seconds, 1, duration),
                "starts": len(run.starts),
                "machine": run.host,
                "version": run.version,
            }
        )
    return Table("runs", rows, folded=len(rows) > _MANY_RUNS)


def settings_table(groups: Mapping[str, Group]) -> Table:
    """Return the settings in which the groups differ."""
    rows = []
    for key in study.differing_keys([group.settings for group in groups.values()]):
        row: dict[str, Any] = {"setting": key}
        for name, group in groups.items():
            row[name] = setting_text(group.settings[key]) if key in group.settings else None
        rows.append(row)
    return Table("settings", rows)


def common_settings_table(runs: Sequence[Run]) -> Table:
    """Return the settings that all runs share."""
    first, *others = map(study.learning_settings, runs)
    rows = [
        {"setting": key, "value": setting_text(value)}
        for key, value in first.items()
        if all(key in settings and repr(settings[key]) == repr(value) for settings in others)
    ]
    return Table("common-settings", rows, folded=True)


def environment_table(runs: Sequence[Run]) -> Table:
    """Return versions and machines, with the number of runs that each value holds for."""
    found: dict[str, Counter[str]] = {}
    for run in runs:
        for key, value in flatten(run.environment).items():
            if key not in ("command", "time"):
                found.setdefault(key, Counter())[setting_text(value)] += 1
    rows = []
    for key, values in found.items():
        for value, number in values.items():
            which = "all" if number == len(runs) else f"{number} of {len(runs)} runs"
            rows.append({"what": key, "value": Cell(value, alarm=len(values) > 1), "runs": which})
    return Table("versions", rows, folded=True)
