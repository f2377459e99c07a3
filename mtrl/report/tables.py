"""The tables of a report, what was published among them: what stands in which row, and how it becomes CSV."""

import csv
import io
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
from mtrl.report.study import FEW_SEEDS, GOALS, Comparison, Group, Study, plural, setting_text
from mtrl.status import count, duration
from mtrl.text import printable

# Titles of tables and figures, and notes on how to read them.
_WORDS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
_NOTICEABLE = 0.1  # A greater loss of success is marked.
_MANY_RUNS = 12  # The page shows a longer list of runs folded.


class Piece:
    """A table or a figure: its name (the stem of its files), its title, and a note on how to read it."""

    def __init__(self, kind: str, comparison: Comparison | None, goals: str | None) -> None:
        words = _WORDS[kind]
        parts = (comparison and comparison.slug, goals, kind.removesuffix(" figure"))
        self.name = "-".join(filter(None, parts))
        self.title: str = words["title"].format(goals=goals and GOALS[goals])
        self.note: str = words["note"]


class Cell(NamedTuple):
    """What a cell shows; ``series`` gives it the coloured mark of a group, and ``alarm`` marks it.

    ``value`` is the number behind it, which CSV holds, or several by name, a column each; None for a text.
    """

    text: str
    value: Any = None
    series: int | None = None
    alarm: bool = False


_DASH = Cell("–")


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
        self.folded = folded

    def numeric(self, column: str) -> bool:
        """Return whether a column holds numbers, which stand at its right."""
        return any(row[column].value is not None for row in self.rows)

    def files(self) -> dict[str, bytes]:
        """Return the values behind the table as CSV, by the name of its file."""
        columns = []
        for column in self.rows[0]:
            cells = [_values(row[column]) for row in self.rows]
            for part in dict.fromkeys(part for cell in cells for part in cell) or [""]:
                columns.append([f"{column} {part}".strip(), *(cell.get(part) for cell in cells)])
        return {f"tables/{self.name}.csv": csv_text(zip(*columns, strict=True))}


def csv_text(rows: Iterable[Sequence[Any]]) -> bytes:
    """Return lines of CSV, the header first."""
    text = io.StringIO(newline="")
    clean = ([printable(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    csv.writer(text, lineterminator="\n").writerows(clean)
    return text.getvalue().encode()


def _cell(value: Any) -> Cell:
    if isinstance(value, Cell):
        return value
    if isinstance(value, Group):
        return Cell(value.label, series=value.series)
    return _DASH if value in (None, "") else Cell(str(value), value if isinstance(value, int) else None)


def _values(cell: Cell) -> dict[str, Any]:
    if isinstance(cell.value, dict) or cell == _DASH:
        return cell.value or {}
    return {"": cell.text if cell.value is None else cell.value}


def _percent(rate: float | None, interval: Sequence[float] | None = None) -> Cell:
    """Return a rate as a percentage, with its interval where there is one."""
    if rate is None:
        return _DASH
    text, value = f"{100 * rate:.1f} %", round(float(rate), 6)
    if interval is None:
        return Cell(text, value)
    low, high = interval
    ends = {"low": round(float(low), 6), "high": round(float(high), 6)}
    return Cell(f"{text}  [{100 * low:.1f}, {100 * high:.1f}]", {"": value} | ends)


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f} points"


def _number(value: float | None, digits: int = 4, write: Callable[[float], str] | None = None) -> Cell:
    """Return a number as ``write`` words it, by default with a fitting length; a dash for none."""
    if value is None or not math.isfinite(value):
        return _DASH
    text = write(value) if write else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
    return Cell(text, round(float(value), digits))


def _aggregates(result: Result) -> dict[str, Cell]:
    iqm = _percent(result.interquartile_mean, result.interquartile_interval)
    return {"IQM": iqm, "mean": _percent(result.mean, result.mean_interval)}


def result_table(comparison: Comparison, goals: str, results: Sequence[Result]) -> Table:
    """Return the final success of every group."""
    rows = []
    for result in results:
        low, high = result.steps
        sampled = analysis.mean_logged(result.group, "training", "success_rate", lambda rates: rates[-1])
        seeds = Cell(str(result.seeds), result.seeds, alarm=result.seeds < FEW_SEEDS)
        steps = Cell(" to ".join(dict.fromkeys((count(low), count(high)))), {"from": low, "to": high})
        row = {"group": result.group, "seeds": seeds, "steps": steps, "episodes a task": result.episodes}
        row |= _aggregates(result) | {"worst task": _percent(result.tasks.min())}
        rows.append(row | {"sampled policy": _percent(sampled)})
    return Table("results", rows, comparison, goals)


def detail_tables(
    comparison: Comparison,
    goals: str,
    results: Sequence[Result],
    pairs: Sequence[Pair],
    thresholds: Sequence[float],
) -> list[Table]:
    """Return the way to each threshold of mean success, groups against each other, forgetting, and all tasks."""
    groups, tasks = comparison.evaluated(goals), comparison.tasks
    reached: list[dict[str, Any]] = [{"group": group} for group in groups]
    for row in reached:
        for threshold in thresholds:
            found = analysis.reached(row["group"], goals, threshold)
            text = _DASH.text if found["steps"] is None else count(found["steps"])
            text += "" if found["seconds"] is None else f", {duration(found['seconds'])}"
            if 0 < found["runs"] < found["of"]:
                text += f" ({found['runs']} of {found['of']} runs)"
            row[f"{100 * threshold:g} %"] = Cell(text, found)
    better = [
        {
            "group": pair.first,
            "over": pair.second,
            "probability of improvement": _percent(pair.probability, pair.interval),
            "mean lead while learning": _number(pair.lead, 6, _points),
        }
        for pair in pairs
    ]
    forgotten: list[dict[str, Any]] = [{"task": name} for name in (*tasks, *["mean"][: len(tasks) > 1])]
    for group in groups:
        drops = analysis.forgetting(group, goals)
        for row, drop in zip(forgotten, [*drops, drops.mean()], strict=False):
            row[group.label] = Cell(f"{100 * drop:.1f}", round(float(drop), 6), alarm=drop > _NOTICEABLE)
    each = [
        {
            "task": task,
            "group": result.group,
            "success": _percent(result.tasks[i], (result.low[i], result.high[i])),
            "return": _number(result.returns[i]),
            "length": _number(result.lengths[i]),
        }
        for i, task in enumerate(tasks)
        for result in results
    ]
    return [
        Table("thresholds", reached, comparison, goals),
        Table("pairs", better, comparison, goals),
        Table("forgetting", forgotten, comparison, goals, folded=True),
        Table("tasks", each, comparison, goals, folded=True),
    ]


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


class Published(NamedTuple):
    """One published success rate on a task set (MT10, MT3 or a task), and the protocol it was measured by.

    Both ends of ``success`` are equal where a single number was published; its ``aggregate`` over runs and tasks is
    "IQM" or "mean". ``steps`` are environment steps over all tasks, ``goals`` None where nobody says them, and
    ``curve`` (step, success) points of the learning curve.
    """

    set: str
    method: str
    success: tuple[float, float]
    aggregate: str
    steps: int
    protocol: str
    source: str
    goals: str | None = None
    curve: tuple[tuple[float, float], ...] = ()

    @property
    def figure(self) -> str:
        """The success rate in words: 81.2 %, or 97.3 to 99.5 %."""
        low, high = self.success
        return f"{100 * low:.1f} %" if low == high else f"{100 * low:.1f} to {100 * high:.1f} %"


def published(task_set: str | None = None) -> list[Published]:
    """Return the published results on one task set, or on all of them in turn; the best of each first."""
    content = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    entries = [Published(**entry) for entry in content["entries"]]
    sets = [entry.set for entry in entries]
    entries.sort(key=lambda entry: (sets.index(entry.set), -sum(entry.success)))
    return [entry for entry in entries if task_set in (None, entry.set)]


def reference_table(
    comparison: Comparison, results: Mapping[str, Sequence[Result]], entries: Sequence[Published]
) -> Table:
    """Return our groups and published results on the same task set, each with its protocol."""
    rows = []
    for goals, found in results.items():
        for result in found:
            settings = result.group.settings
            transferred = settings.get("transfer.source") or settings.get("transfer.train")
            protocol = (
                f"{comparison.reward} reward, {result.episodes} episodes a task, {GOALS[goals]}, deterministic, "
                f"horizon {comparison.horizon}, success at any step, {plural(result.seeds, 'seed')}"
            )
            protocol += "; steps without its source's" if transferred else ""
            method = Cell(f"this report: {result.group.label}", series=result.group.series)
            row = {"method": method, **_aggregates(result)}
            row |= {"steps": Cell(count(result.steps[1]), result.steps[1]), "protocol": protocol}
            rows.append(row | {"source": "measured here"})
    for entry in entries:
        low, high = entry.success
        success = Cell(entry.figure, {"": (low + high) / 2, "low": low, "high": high})
        row = {"method": entry.method, "IQM": None, "mean": None, entry.aggregate: success}
        row |= {"steps": Cell(count(entry.steps), entry.steps), "protocol": entry.protocol}
        rows.append(row | {"source": entry.source})
    return Table("reference", rows, comparison)


def group_tables(groups: Mapping[str, Group]) -> list[Table]:
    """Return the speed of every group and where its time went, and the settings in which the groups differ."""
    speeds = []
    for name, group in groups.items():
        timed = [(member.run.step, member.run.seconds) for member in group.members if member.run.seconds]
        rates = [step / seconds for step, seconds in timed]
        row = {"group": Cell(name, series=group.series)}
        row["steps/s"] = _number(sum(rates) / len(rates) if rates else None)
        row |= {"slowest": _number(min(rates, default=None)), "fastest": _number(max(rates, default=None))}
        for part in ("environment", "learning", "evaluation"):
            share = analysis.mean_logged(group, "timing", part, np.mean)
            row[part] = _number(share, 4, lambda share: f"{100 * share:.0f} %")
        row["time, all runs"] = _number(sum(seconds for _, seconds in timed) or None, 1, duration)
        row["machine"] = ", ".join(sorted({member.run.host for member in group.members} - {""}))
        speeds.append(row)
    settings = []
    for key in study.differing_keys([group.settings for group in groups.values()]):
        values = {name: group.settings.get(key, _DASH) for name, group in groups.items()}
        shown = {name: value if value is _DASH else setting_text(value) for name, value in values.items()}
        settings.append({"setting": key, **shown})
    return [Table("throughput", speeds), Table("settings", settings)]


def run_tables(whole: Study) -> list[Table]:
    """Return every run with its state, the settings that all share, and versions and machines with their runs."""
    places = {
        member.run.path: (f"{comparison.heading}: {group.label}", group.series)
        for comparison in whole.comparisons
        for group in comparison.groups
        for member in group.members
    }
    listed = []
    for run in whole.runs:
        name, series = places.get(run.path, ("left out", None))
        total = run.total_steps
        steps = count(run.step) + (f" of {count(total)}" if total else "")
        state = Cell(run.state, alarm=run.state not in ("finished", "running"))
        row = {"run": Cell(str(run.path), series=series), "group": name, "seed": run.seed, "state": state}
        row |= {"steps": Cell(steps, {"": run.step, "of": total}), "time": _number(run.seconds, 1, duration)}
        listed.append(row | {"starts": len(run.starts), "machine": run.host, "version": run.version})
    first, *others = map(study.learning_settings, whole.runs)
    common = [
        {"setting": key, "value": setting_text(value)}
        for key, value in first.items()
        if all(key in settings and repr(settings[key]) == repr(value) for settings in others)
    ]
    found: dict[str, Counter[str]] = {}
    for run in whole.runs:
        for key, value in flatten(run.environment).items():
            if key not in ("command", "time"):
                found.setdefault(key, Counter())[setting_text(value)] += 1
    versions = []
    for key, values in found.items():
        for value, number in values.items():
            which = "all" if number == len(listed) else f"{number} of {len(listed)} runs"
            versions.append({"what": key, "value": Cell(value, alarm=len(values) > 1), "runs": which})
    return [
        Table("runs", listed, folded=len(listed) > _MANY_RUNS),
        Table("common-settings", common, folded=True),
        Table("versions", versions, folded=True),
    ]
