"""What the runs of a comparison show: final results, curves over seeds, thresholds, forgetting, kept skills."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl import statistics
from mtrl.report.study import Comparison, Group
from mtrl.rundir.curves import Curves
from mtrl.rundir.read import Table
from mtrl.rundir.run import Run
from mtrl.statistics import Interval

Array = NDArray[np.float64]

_POINTS, _PANEL_POINTS = 400, 150
"""Points of a curve over seeds, in a wide figure and in a panel: more than either can show."""

_MANY_GROUPS = 6
"""Beyond this number, groups are compared with the best one and not each with each."""


@dataclass(slots=True)
class Result:
    """Final success of a group on one kind of goals; intervals are None for a single run.

    ``tasks`` is the mean success per task; ``low`` and ``high`` its Wilson interval over all episodes.
    """

    group: Group
    seeds: int
    steps: tuple[float, float]
    episodes: int
    interquartile_mean: float
    interquartile_interval: Interval | None
    mean: float
    mean_interval: Interval | None
    tasks: Array
    low: Array
    high: Array
    returns: Array
    lengths: Array


@dataclass(slots=True)
class Band:
    """A curve over seeds.

    The mean up to ``whole`` covers every seed; beyond it, only the runs that got that far. ``low``, ``high``
    are the bootstrap interval of the mean up to there, None for a single run.
    """

    group: Group
    runs: list[tuple[Array, Array]]
    steps: Array
    mean: Array
    whole: int
    low: Array | None
    high: Array | None


@dataclass(slots=True)
class Pair:
    """How one group does against another: probability of improvement and mean lead of its curve."""

    first: Group
    second: Group
    probability: float
    interval: Interval | None
    lead: float | None


def results(comparison: Comparison, goals: str) -> list[Result]:
    """Return the final success of every group that was evaluated on ``goals``."""
    found = []
    for group in comparison.evaluated(goals):
        scores = group.scores(goals)
        last = [(curves, curves.final()) for curves in group.curves(goals)]
        episodes = np.array([curves.episodes[:, i] for curves, i in last])
        # Seeds count alike, however many episodes each was played: their mean is known as from this many.
        known = len(last) ** 2 / (1 / episodes).sum(axis=0)
        low, high = statistics.wilson_interval(scores.mean(axis=0) * known, known)
        ends = [float(curves.steps[i]) for curves, i in last]
        interquartile = mean = None
        if len(last) > 1:
            interquartile = statistics.stratified_bootstrap(scores)
            mean = statistics.stratified_bootstrap(scores, statistics.mean_score)
        found.append(
            Result(
                group=group,
                seeds=len(last),
                steps=(min(ends), max(ends)),
                episodes=int(episodes.min()),
                interquartile_mean=float(statistics.interquartile_mean(scores)),
                interquartile_interval=interquartile,
                mean=float(scores.mean()),
                mean_interval=mean,
                tasks=scores.mean(axis=0),
                low=low,
                high=high,
                returns=np.mean([curves.returns[:, i] for curves, i in last], axis=0),
                lengths=np.mean([curves.lengths[:, i] for curves, i in last], axis=0),
            )
        )
    return found


def pairs(comparison: Comparison, goals: str) -> list[Pair]:
    """Compare the groups, the better one first: each with each, or all with the best if there are many."""
    scores = [(group, group.scores(goals)) for group in comparison.evaluated(goals)]
    scores.sort(key=lambda scored: -float(scored[1].mean()))
    bands = {group.label: mean_band(group, goals) for group, _ in scores}
    found = []
    for index, (first, ours) in enumerate(scores[:1] if len(scores) > _MANY_GROUPS else scores):
        for second, theirs in scores[index + 1 :]:
            interval = None
            if min(len(ours), len(theirs)) > 1:
                interval = statistics.improvement_interval(ours, theirs)
            probability = float(statistics.probability_of_improvement(ours, theirs))
            lead = _lead(bands[first.label], bands[second.label])
            found.append(Pair(first, second, probability, interval, lead))
    return found


def _lead(ours: Band, theirs: Band) -> float | None:
    start = max(ours.steps[0], theirs.steps[0])
    end = min(ours.steps[ours.whole - 1], theirs.steps[theirs.whole - 1])
    if end <= start:
        return None
    curves = [part[: band.whole] for band in (ours, theirs) for part in (band.steps, band.mean)]
    return statistics.area_between_curves(*curves)


def mean_band(group: Group, goals: str) -> Band:
    """Return the mean success over tasks of a group, with its band over seeds."""
    parts = [(c.steps[c.complete], c.success[:, c.complete]) for c in group.curves(goals)]
    return _band(group, parts, _POINTS)


def task_band(group: Group, goals: str, task: int) -> Band:
    """Return the success of one task, with its band over seeds."""
    parts = []
    for curves in group.curves(goals):
        known = np.isfinite(curves.success[task])
        parts.append((curves.steps[known], curves.success[task : task + 1, known]))
    return _band(group, parts, _PANEL_POINTS)


def _band(group: Group, curves: Sequence[tuple[Array, Array]], points: int) -> Band:
    start, ends = max(steps[0] for steps, _ in curves), [steps[-1] for steps, _ in curves]
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = np.unique(np.append(grid[grid >= start], [start, min(ends)]))
    if len(grid) > points:
        keep = np.linspace(0, len(grid) - 1, points).round().astype(int)
        grid = np.unique(np.append(grid[keep], [min(ends), grid[-1]]))
    tasks = curves[0][1].shape[0]
    values = np.full((len(curves), tasks, len(grid)), np.nan)
    for index, (steps, success) in enumerate(curves):
        inside = grid <= steps[-1]
        for task in range(tasks):
            values[index, task, inside] = np.interp(grid[inside], steps, success[task])
    whole = int((grid <= min(ends)).sum())
    low = high = None
    if len(curves) > 1:
        low, high = statistics.bootstrap_band(values[:, :, :whole])
    runs = [(steps, success.mean(axis=0)) for steps, success in curves]
    return Band(group, runs, grid, np.nanmean(values.mean(axis=1), axis=0), whole, low, high)


def reached(group: Group, goals: str, threshold: float) -> dict[str, Any]:
    """Return the medians of ``steps`` and ``seconds`` at which ``threshold`` was first reached in an evaluation.

    They are over the ``runs`` that reached it, ``of`` so many, and None where none did.
    """
    members = group.evaluated(goals)
    steps, seconds = [], []
    for member in members:
        step = statistics.steps_to_threshold(*member.curves[goals].mean(), threshold)
        if step is not None:
            steps.append(step)
            seconds.append(_seconds_at(member.run, step))
    seconds = [value for value in seconds if value is not None]
    medians = (float(np.median(values)) if values else None for values in (steps, seconds))
    return dict(zip(("steps", "seconds"), medians, strict=True)) | {"runs": len(steps), "of": len(members)}


def _seconds_at(run: Run, step: float) -> float | None:
    """Return the wall-clock seconds of training at a step, or None where ``timing.csv`` does not say."""
    steps, seconds = _finite(run.timing, "step", "seconds")
    return float(np.interp(step, np.append(0, steps), np.append(0, seconds))) if len(steps) else None


def _finite(table: Table, *names: str) -> list[Array]:
    """Return columns of a log without the rows in which one of them is empty; none where a column is missing."""
    if not set(names) <= set(table.columns):
        return [np.array([])] * len(names)
    columns = np.array([table[name] for name in names])
    return list(columns[:, np.isfinite(columns).all(axis=0)])


def forgetting(group: Group, goals: str) -> Array:
    """Return how far the final success of each task lies below its best, mean over runs, ``(tasks,)``.

    The best is the highest mean of three evaluations in a row: the highest one of many noisy ones would
    show forgetting where there is none. After Chaudhry et al., "Riemannian Walk" (ECCV 2018).
    """
    drops = [[_drop(curves, task) for task in range(len(curves.success))] for curves in group.curves(goals)]
    return np.mean(drops, axis=0)


def _drop(curves: Curves, task: int) -> float:
    values = curves.success[task, : curves.final() + 1]
    values = values[np.isfinite(values)]
    if len(values) < 4:
        return 0.0
    smooth = np.convolve(values, np.ones(3) / 3, mode="valid")
    return max(0.0, float(smooth.max() - values[-1]))


def stage_starts(group: Group) -> list[tuple[int, float]]:
    """Return (stage, step at which it began) of a group's curriculum, mean over the runs that reached it."""
    starts: dict[int, list[float]] = {}
    for member in group.members:
        steps, stages = _finite(member.run.training, "step", "stage")
        for stage in np.unique(stages[stages >= 0].astype(int)):
            starts.setdefault(int(stage), []).append(float(steps[stages == stage][0]))
    return [(stage, float(np.mean(steps))) for stage, steps in sorted(starts.items())]


def sampled_success(group: Group) -> float | None:
    """Return the newest success of training episodes (sampled actions), mean over runs, or None."""
    found = [_finite(member.run.training, "success_rate")[0] for member in group.members]
    return float(np.mean([rates[-1] for rates in found if len(rates)])) if any(map(len, found)) else None


def time_share(group: Group, part: str) -> float | None:
    """Return the share of the time that a part of training took, by ``timing.csv``, mean over runs, or None."""
    found = [_finite(member.run.timing, part)[0] for member in group.members]
    return (
        float(np.mean([shares.mean() for shares in found if len(shares)])) if any(map(len, found)) else None
    )


@dataclass(slots=True)
class Kept:
    """The success on a task of the run that a group began from, before the first update and at the end."""

    task: str
    seeds: int
    before: float
    after: float


def kept_skills(group: Group) -> list[Kept]:
    """Return what the runs of a group kept of their sources' success: means over the runs that measured both."""
    found: dict[str, list[tuple[float, float]]] = {}
    for member in group.members:
        transfer = member.run.status.get("transfer")
        success = transfer.get("source_success") if isinstance(transfer, dict) else None
        success = success if isinstance(success, dict) else {}
        before, after = success.get("before"), success.get("after")
        if isinstance(before, dict) and isinstance(after, dict):
            for task, rate in before.items():
                if _is_rate(rate) and _is_rate(after.get(task)):
                    found.setdefault(task, []).append((rate, after[task]))
    return [Kept(task, len(rates), *np.mean(rates, axis=0).tolist()) for task, rates in found.items()]


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
