"""What the runs of a comparison show: final results, curves over seeds, thresholds, forgetting."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtrl import statistics
from mtrl.report.study import Comparison, Group
from mtrl.rundir.curves import Curves
from mtrl.rundir.run import Run
from mtrl.statistics import Interval

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
    tasks: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    returns: NDArray[np.float64]
    lengths: NDArray[np.float64]


@dataclass(slots=True)
class Band:
    """A curve over seeds.

    The mean up to ``whole`` covers every seed; beyond it, only the runs that got that far. ``low``, ``high``
    are the bootstrap interval of the mean up to there, None for a single run.
    """

    group: Group
    runs: list[tuple[NDArray[np.float64], NDArray[np.float64]]]
    steps: NDArray[np.float64]
    mean: NDArray[np.float64]
    whole: int
    low: NDArray[np.float64] | None
    high: NDArray[np.float64] | None


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
    for group in comparison.groups:
        curves = [member.curves[goals] for member in group.with_goals(goals)]
        if not curves:
            continue
        scores = group.scores(goals)
        last = [curve.final() for curve in curves]
        episodes = np.array([c.episodes[:, i] for c, i in zip(curves, last, strict=True)])
        # Seeds count alike, however many episodes each was played: their mean is known as from this many.
        known = len(curves) ** 2 / (1 / episodes).sum(axis=0)
        low, high = statistics.wilson_interval(scores.mean(axis=0) * known, known)
        ends = [float(c.steps[i]) for c, i in zip(curves, last, strict=True)]
        several = len(curves) > 1
        found.append(
            Result(
                group=group,
                seeds=len(curves),
                steps=(min(ends), max(ends)),
                episodes=int(episodes.min()),
                interquartile_mean=float(statistics.interquartile_mean(scores)),
                interquartile_interval=statistics.stratified_bootstrap(scores) if several else None,
                mean=float(scores.mean()),
                mean_interval=statistics.stratified_bootstrap(scores, statistics.mean_score)
                if several
                else None,
                tasks=scores.mean(axis=0),
                low=low,
                high=high,
                returns=np.mean([c.returns[:, i] for c, i in zip(curves, last, strict=True)], axis=0),
                lengths=np.mean([c.lengths[:, i] for c, i in zip(curves, last, strict=True)], axis=0),
            )
        )
    return found


def pairs(comparison: Comparison, goals: str) -> list[Pair]:
    """Compare the groups, the better one first: each with each, or all with the best if there are many."""
    groups = [group for group in comparison.groups if group.with_goals(goals)]
    groups.sort(key=lambda group: -float(group.scores(goals).mean()))
    chosen = [(a, b) for i, a in enumerate(groups) for b in groups[i + 1 :]]
    if len(groups) > _MANY_GROUPS:
        chosen = [(groups[0], other) for other in groups[1:]]
    bands = {group.label: mean_band(group, goals) for group in groups}
    found = []
    for first, second in chosen:
        ours, theirs = first.scores(goals), second.scores(goals)
        several = min(len(ours), len(theirs)) > 1
        found.append(
            Pair(
                first,
                second,
                float(statistics.probability_of_improvement(ours, theirs)),
                statistics.improvement_interval(ours, theirs) if several else None,
                _lead(bands[first.label], bands[second.label]),
            )
        )
    return found


def _lead(ours: Band, theirs: Band) -> float | None:
    start = max(ours.steps[0], theirs.steps[0])
    end = min(ours.steps[ours.whole - 1], theirs.steps[theirs.whole - 1])
    if end <= start:
        return None
    return statistics.area_between_curves(
        ours.steps[: ours.whole],
        ours.mean[: ours.whole],
        theirs.steps[: theirs.whole],
        theirs.mean[: theirs.whole],
    )


def mean_band(group: Group, goals: str) -> Band:
    """Return the mean success over tasks of a group, with its band over seeds."""
    curves = [member.curves[goals] for member in group.with_goals(goals)]
    return _band(group, [(c.steps[c.complete], c.success[:, c.complete]) for c in curves], _POINTS)


def task_band(group: Group, goals: str, task: int) -> Band:
    """Return the success of one task, with its band over seeds."""
    parts = []
    for member in group.with_goals(goals):
        curves = member.curves[goals]
        known = np.isfinite(curves.success[task])
        parts.append((curves.steps[known], curves.success[task : task + 1, known]))
    return _band(group, parts, _PANEL_POINTS)


def _band(group: Group, curves: list[tuple[NDArray[np.float64], NDArray[np.float64]]], points: int) -> Band:
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


@dataclass(slots=True)
class Reached:
    """When the runs of a group first reached a mean success: medians over the runs that did."""

    runs: int
    reached: int
    steps: float | None
    seconds: float | None


def reached(group: Group, goals: str, threshold: float) -> Reached:
    """Return when ``threshold`` was first reached in an evaluation."""
    steps, seconds = [], []
    members = group.with_goals(goals)
    for member in members:
        step = statistics.steps_to_threshold(*member.curves[goals].mean(), threshold)
        if step is None:
            continue
        steps.append(step)
        when = seconds_at(member.run, step)
        if when is not None:
            seconds.append(when)
    return Reached(
        len(members),
        len(steps),
        float(np.median(steps)) if steps else None,
        float(np.median(seconds)) if seconds else None,
    )


def seconds_at(run: Run, step: float) -> float | None:
    """Return the wall-clock seconds of training at a step, or None where ``timing.csv`` does not say."""
    table = run.timing
    if not len(table) or not {"step", "seconds"} <= set(table.columns):
        return None
    known = np.isfinite(table["step"]) & np.isfinite(table["seconds"])
    if not known.any():
        return None
    steps, seconds = np.append(0, table["step"][known]), np.append(0, table["seconds"][known])
    return float(np.interp(step, steps, seconds))


def forgetting(group: Group, goals: str) -> NDArray[np.float64]:
    """Return how far the final success of each task lies below its best, mean over runs, ``(tasks,)``.

    The best is the highest mean of three evaluations in a row: the highest one of many noisy ones would
    show forgetting where there is none. After Chaudhry et al., "Riemannian Walk" (ECCV 2018).
    """
    drops = []
    for member in group.with_goals(goals):
        curves = member.curves[goals]
        drops.append([_drop(curves, task) for task in range(len(curves.success))])
    return np.mean(drops, axis=0)


def _drop(curves: Curves, task: int) -> float:
    final = curves.final()
    values = curves.success[task, : final + 1]
    values = values[np.isfinite(values)]
    if len(values) < 4:
        return 0.0
    smooth = np.convolve(values, np.ones(3) / 3, mode="valid")
    return max(0.0, float(smooth.max() - values[-1]))


def stage_starts(group: Group) -> list[tuple[int, float]]:
    """Return (stage, step at which it began) of a group's curriculum, mean over the runs that reached it."""
    starts: dict[int, list[float]] = {}
    for member in group.members:
        table = member.run.training
        if not len(table) or not {"step", "stage"} <= set(table.columns):
            continue
        known = np.isfinite(table["stage"]) & (table["stage"] >= 0) & np.isfinite(table["step"])
        stages, steps = table["stage"][known].astype(int), table["step"][known]
        for stage in np.unique(stages):
            starts.setdefault(int(stage), []).append(float(steps[stages == stage][0]))
    return [(stage, float(np.mean(steps))) for stage, steps in sorted(starts.items())]


def sampled_success(group: Group) -> float | None:
    """Return the newest success of training episodes (sampled actions), mean over runs, or None."""
    values = []
    for member in group.members:
        column = member.run.training.columns.get("success_rate")
        if column is not None and np.isfinite(column).any():
            values.append(float(column[np.isfinite(column)][-1]))
    return float(np.mean(values)) if values else None
