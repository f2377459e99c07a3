"""The tables of a report: which numbers stand in which row."""

from collections.abc import Mapping, Sequence

import numpy as np

from mtrl.report import analysis
from mtrl.report.notices import project_version
from mtrl.report.reference import Published
from mtrl.report.settings import learning_settings, show
from mtrl.report.sheets import Cell, Sheet, percent
from mtrl.report.study import Comparison, Study
from mtrl.rundir import Run, flatten
from mtrl.status import count, duration

_NOTICEABLE = 0.1
"""A drop of success beyond ten points is marked."""

GOALS = {"train": "training goals", "heldout": "held-out goals"}


def result_sheet(comparison: Comparison, goals: str, results: Sequence[analysis.Result]) -> Sheet:
    """Return the final success of every group."""
    rows = []
    for result in results:
        low, high = result.steps
        steps = count(low) if low == high else f"{count(low)} to {count(high)}"
        rows.append(
            [
                Cell(result.group.label, series=result.group.series),
                Cell(str(result.seeds), result.seeds, alarm=result.seeds < 3),
                Cell(steps, {"from": low, "to": high}),
                Cell(str(result.episodes), result.episodes),
                percent(result.interquartile_mean, result.interquartile_interval),
                percent(result.mean, result.mean_interval),
                percent(float(result.tasks.min())),
                percent(analysis.sampled_success(result.group)),
            ]
        )
    columns = ["group", "seeds", "steps", "episodes a task", "IQM", "mean", "worst task", "sampled policy"]
    note = (
        "Success rate of the deterministic policy, in full episodes, on the newest evaluation of each run. "
        "IQM is the mean of the middle half of all runs and tasks; brackets are stratified bootstrap 95 % "
        "intervals over seeds. The last column is the success of training episodes, with sampled actions."
    )
    return Sheet(
        f"{comparison.slug}-{goals}-results", f"Final success on {GOALS[goals]}", columns, rows, note
    )


def task_sheet(comparison: Comparison, goals: str, results: Sequence[analysis.Result]) -> Sheet:
    """Return success, return and length per task and group."""
    rows = []
    for result in results:
        for index, task in enumerate(comparison.tasks):
            rows.append(
                [
                    Cell(task),
                    Cell(result.group.label, series=result.group.series),
                    percent(float(result.tasks[index]), (result.low[index], result.high[index])),
                    _number(result.returns[index]),
                    _number(result.lengths[index]),
                ]
            )
    rows.sort(key=lambda row: comparison.tasks.index(row[0].text))
    note = "Brackets are Wilson 95 % intervals over all episodes: they do not hold the spread between seeds."
    columns = ["task", "group", "success", "return", "length"]
    return Sheet(
        f"{comparison.slug}-{goals}-tasks", f"Each task on {GOALS[goals]}", columns, rows, note, folded=True
    )


def threshold_sheet(comparison: Comparison, goals: str, thresholds: Sequence[float]) -> Sheet:
    """Return environment steps and time to each threshold of mean success."""
    rows = []
    for group in comparison.groups:
        if not group.with_goals(goals):
            continue
        row = [Cell(group.label, series=group.series)]
        for threshold in thresholds:
            found = analysis.reached(group, goals, threshold)
            text = "–"
            if found.steps is not None:
                spent = f", {duration(found.seconds)}" if found.seconds is not None else ""
                text = f"{count(found.steps)}{spent}"
                text += "" if found.reached == found.runs else f" ({found.reached} of {found.runs} runs)"
            value = {"steps": found.steps, "seconds": found.seconds, "runs": found.reached, "of": found.runs}
            row.append(Cell(text, value))
        rows.append(row)
    note = (
        "First evaluation whose mean success over tasks is at least this: environment steps and wall-clock "
        "time of training, medians over the runs that got there."
    )
    columns = ["group", *(f"{100 * threshold:.0f} %" for threshold in thresholds)]
    return Sheet(
        f"{comparison.slug}-{goals}-thresholds", "Steps and time to a success rate", columns, rows, note
    )


def pair_sheet(comparison: Comparison, goals: str, found: Sequence[analysis.Pair]) -> Sheet:
    """Return the comparison of pairs of groups."""
    rows = []
    for pair in found:
        lead = Cell("–") if pair.lead is None else Cell(f"{100 * pair.lead:+.1f} points", round(pair.lead, 6))
        rows.append(
            [
                Cell(pair.first.label, series=pair.first.series),
                Cell(pair.second.label, series=pair.second.series),
                percent(pair.probability, pair.interval),
                lead,
            ]
        )
    note = (
        "Chance that a run of the first beats one of the second on a task, averaged over tasks, ties "
        "counting half. The lead is the area between the two learning curves over their common steps."
    )
    columns = ["group", "over", "probability of improvement", "mean lead while learning"]
    return Sheet(f"{comparison.slug}-{goals}-pairs", "One group against another", columns, rows, note)


def forgetting_sheet(comparison: Comparison, goals: str) -> Sheet:
    """Return how far each task fell from its best."""
    groups = [group for group in comparison.groups if group.with_goals(goals)]
    drops = [analysis.forgetting(group, goals) for group in groups]
    rows = [
        [Cell(task), *(_drop(float(values[index])) for values in drops)]
        for index, task in enumerate(comparison.tasks)
    ]
    if len(comparison.tasks) > 1:
        rows.append([Cell("mean"), *(_drop(float(values.mean())) for values in drops)])
    note = (
        "Percentage points between the best success so far (mean of three evaluations in a row) and the "
        "last, mean over seeds. A few points are the noise of evaluation."
    )
    columns = ["task", *(group.label for group in groups)]
    return Sheet(f"{comparison.slug}-{goals}-forgetting", "Forgetting", columns, rows, note, folded=True)


def throughput_sheet(study: Study) -> Sheet:
    """Return the speed of every group and where its time went."""
    rows = []
    for comparison in study.comparisons:
        for group in comparison.groups:
            runs = [member.run for member in group.members]
            seconds = [run.seconds for run in runs if run.seconds]
            speeds = [run.step / run.seconds for run in runs if run.seconds]
            shares = [_share(runs, name) for name in ("environment", "learning", "evaluation")]
            name = group.label if len(study.comparisons) == 1 else f"{comparison.title}: {group.label}"
            total = float(np.sum(seconds)) if seconds else None
            rows.append(
                [
                    Cell(name, series=group.series),
                    _number(float(np.mean(speeds)) if speeds else None),
                    _number(float(np.min(speeds)) if speeds else None),
                    _number(float(np.max(speeds)) if speeds else None),
                    *(Cell("–") if s is None else Cell(f"{100 * s:.0f} %", round(s, 4)) for s in shares),
                    Cell("–") if total is None else Cell(duration(total), round(total, 1)),
                    Cell(", ".join(sorted({run.host for run in runs if run.host})) or "–"),
                ]
            )
    columns = [
        "group",
        "steps/s",
        "slowest",
        "fastest",
        "environment",
        "learning",
        "evaluation",
        "time, all runs",
        "machine",
    ]
    note = "Environment steps per second of wall-clock time over whole runs, restarts included; their mean."
    return Sheet("throughput", "Throughput", columns, rows, note)


def run_sheet(study: Study) -> Sheet:
    """Return every run with its state."""
    places = {id(m.run): (c, g) for c in study.comparisons for g in c.groups for m in g.members}
    rows = []
    for run in study.runs:
        comparison, group = places.get(id(run), (None, None))
        total = run.total_steps
        rows.append(
            [
                Cell(str(run.path), series=group.series if group else None),
                Cell(f"{comparison.title}: {group.label}" if comparison and group else "left out"),
                Cell("–" if run.seed is None else str(run.seed), run.seed),
                Cell(run.state, alarm=run.state not in ("finished", "running")),
                Cell(
                    f"{count(run.step)}{' of ' + count(total) if total else ''}", {"": run.step, "of": total}
                ),
                Cell("–") if run.seconds is None else Cell(duration(run.seconds), round(run.seconds, 1)),
                Cell(str(len(run.starts)), len(run.starts)),
                Cell(run.host or "–"),
                Cell(project_version(run) or "–"),
            ]
        )
    columns = ["run", "group", "seed", "state", "steps", "time", "starts", "machine", "version"]
    return Sheet("runs", "Runs", columns, rows, folded=len(rows) > 12)


def settings_sheet(study: Study) -> Sheet:
    """Return the settings in which the groups differ."""
    groups = [(comparison, group) for comparison in study.comparisons for group in comparison.groups]
    settings = [group.settings for _, group in groups]
    keys = list(dict.fromkeys(key for values in settings for key in values))
    rows = []
    for key in keys:
        if len({repr(values.get(key)) for values in settings}) > 1:
            rows.append(
                [Cell(key), *(Cell(show(values[key]) if key in values else "–") for values in settings)]
            )
    names = [g.label if len(study.comparisons) == 1 else f"{c.title}: {g.label}" for c, g in groups]
    note = "Settings that change what is learned and that differ between groups; all others are equal."
    return Sheet("settings", "Differences in the configuration", ["setting", *names], rows, note)


def common_settings_sheet(study: Study) -> Sheet:
    """Return the settings that all runs share."""
    settings = [learning_settings(run) for run in study.runs]
    same = [
        key for key in settings[0] if all(repr(v.get(key, "")) == repr(settings[0][key]) for v in settings)
    ]
    rows = [[Cell(key), Cell(show(settings[0][key]))] for key in same]
    return Sheet("common-settings", "Settings that all runs share", ["setting", "value"], rows, folded=True)


def environment_sheet(study: Study) -> Sheet:
    """Return versions and machines, with the runs that each value holds for."""
    found: dict[str, dict[str, list[Run]]] = {}
    for run in study.runs:
        for key, value in flatten(run.environment).items():
            if not {"command", "command_line", "argv", "time"} & set(key.split(".")):
                found.setdefault(key, {}).setdefault(show(value), []).append(run)
    rows = []
    for key, values in found.items():
        several = len(values) > 1
        for value, runs in values.items():
            which = f"{len(runs)} of {len(study.runs)} runs" if len(runs) < len(study.runs) else "all"
            rows.append([Cell(key), Cell(value, alarm=several), Cell(which)])
    return Sheet("versions", "Versions and machines", ["what", "value", "runs"], rows, folded=True)


def reference_sheet(
    comparison: Comparison, results: Mapping[str, Sequence[analysis.Result]], published: Sequence[Published]
) -> Sheet:
    """Return our groups and published results on the same task set, each with its protocol."""
    rows = []
    for goals, found in results.items():
        for result in found:
            rows.append(
                [
                    Cell(f"this report: {result.group.label}", series=result.group.series),
                    percent(result.interquartile_mean, result.interquartile_interval),
                    percent(result.mean, result.mean_interval),
                    Cell(count(result.steps[1]), result.steps[1]),
                    Cell(own_protocol(comparison, goals, result)),
                    Cell("measured here"),
                ]
            )
    for entry in published:
        low, high = entry.success
        text = f"{100 * low:.1f} %" if low == high else f"{100 * low:.1f} to {100 * high:.1f} %"
        cell = Cell(text, {"": (low + high) / 2, "low": low, "high": high})
        interquartile = "IQM" in entry.protocol
        rows.append(
            [
                Cell(entry.method),
                cell if interquartile else Cell("–"),
                Cell("–") if interquartile else cell,
                Cell(count(entry.steps), entry.steps),
                Cell(entry.protocol),
                Cell(entry.source),
            ]
        )
    note = (
        "Figures of other protocols are not measured alike: reward version, goals, horizon, policy and "
        "simulator are named, and a difference in them can outweigh a difference in method."
    )
    columns = ["method", "IQM", "mean", "steps", "protocol", "source"]
    return Sheet(f"{comparison.slug}-reference", "Beside published results", columns, rows, note)


def own_protocol(comparison: Comparison, goals: str, result: analysis.Result) -> str:
    """Return the protocol of this project in words."""
    seeds = "1 seed" if result.seeds == 1 else f"{result.seeds} seeds"
    what = f"{comparison.reward} reward, {result.episodes} episodes a task, {GOALS[goals]}, deterministic"
    return f"{what}, horizon {comparison.horizon}, success at any step, {seeds}"


def _number(value: float | None) -> Cell:
    if value is None or not np.isfinite(value):
        return Cell("–")
    return Cell(f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}", round(float(value), 4))


def _drop(value: float) -> Cell:
    return Cell(f"{100 * value:.1f}", round(value, 6), alarm=value > _NOTICEABLE)


def _share(runs: Sequence[Run], name: str) -> float | None:
    values = [run.timing[name] for run in runs if len(run.timing) and name in run.timing.columns]
    means = [float(np.nanmean(column)) for column in values if np.isfinite(column).any()]
    return float(np.mean(means)) if means else None
