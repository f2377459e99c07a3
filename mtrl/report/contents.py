"""The tables of a comparison: which numbers stand in which row."""

from collections.abc import Mapping, Sequence

from mtrl.report import analysis
from mtrl.report.reference import Published
from mtrl.report.sheets import Cell, Sheet, number, percent
from mtrl.report.study import Comparison, Group
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
        "intervals over seeds. The last column is the success of training episodes, with sampled actions. "
        "It is the last model that stands here, not the best one, which python -m mtrl.evaluation plays."
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
                    number(result.returns[index]),
                    number(result.lengths[index]),
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
        cell = Cell(entry.figure, {"": (low + high) / 2, "low": low, "high": high})
        interquartile = entry.aggregate == "IQM"
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
    words = f"{what}, horizon {comparison.horizon}, success at any step, {seeds}"
    return f"{words}; steps without its source's" if _from_source(result.group) else words


def _from_source(group: Group) -> bool:
    return bool(group.settings.get("transfer.source") or group.settings.get("transfer.train"))


def _drop(value: float) -> Cell:
    return Cell(f"{100 * value:.1f}", round(value, 6), alarm=value > _NOTICEABLE)
