"""What the runs of a comparison show: final results, curves over seeds, thresholds, forgetting, kept skills."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtrl import statistics
from mtrl.config.types import is_number
from mtrl.report.study import Comparison, Group
from mtrl.rundir.read import Table, section
from mtrl.statistics import Interval

Array = NDArray[np.float64]

_POINTS, _PANEL_POINTS = 400, 150  # Of a curve over seeds, wide and in a panel: more than either shows.
_MANY_GROUPS = 6  # More groups than these are compared with the best one and not each with each.


class Result:
    """Final success of a group on one kind of goals; intervals over seeds are None for a single run.

    ``tasks``, ``returns`` and ``lengths`` are means over seeds per task; ``low`` and ``high`` are the ends of the
    Wilson interval of ``tasks`` over all episodes.
    """

    def __init__(self, group: Group, goals: str) -> None:
        last = [(curves, curves.final()) for curves in group.curves(goals)]
        ends = [float(curves.steps[i]) for curves, i in last]
        episodes = np.array([curves.episodes[:, i] for curves, i in last])
        scores = group.scores(goals)
        self.group, self.seeds, self.episodes = group, len(last), int(episodes.min())
        self.steps = (min(ends), max(ends))
        self.tasks: Array = scores.mean(axis=0)
        self.returns: Array = np.mean([curves.returns[:, i] for curves, i in last], axis=0)
        self.lengths: Array = np.mean([curves.lengths[:, i] for curves, i in last], axis=0)
        # Seeds count alike, however many episodes each was played: their mean is known as from this many.
        known = len(last) ** 2 / (1 / episodes).sum(axis=0)
        self.low, self.high = statistics.wilson_interval(self.tasks * known, known)
        self.interquartile_mean = float(statistics.interquartile_mean(scores))
        self.mean = float(scores.mean())
        self.interquartile_interval, self.mean_interval = (
            statistics.bootstrap_interval(aggregate, scores) if len(last) > 1 else None
            for aggregate in (statistics.interquartile_mean, statistics.mean_score)
        )


class Band:
    """Success over steps with its band over seeds: of a task by its index, or the mean over all tasks.

    The mean up to ``whole`` covers every seed, beyond it the runs that got that far. ``low`` and ``high`` are its
    bootstrap interval up to there, None for a single run; ``runs`` are the curves of the seeds.
    """

    def __init__(self, group: Group, goals: str, task: int | None = None) -> None:
        parts = []
        for curves in group.curves(goals):
            success = curves.success if task is None else curves.success[task : task + 1]
            known = np.isfinite(success).all(axis=0)
            parts.append((curves.steps[known], success[:, known]))
        start, end = max(steps[0] for steps, _ in parts), min(steps[-1] for steps, _ in parts)
        grid = np.unique(np.concatenate([steps for steps, _ in parts]))
        grid = np.unique(np.append(grid[grid >= start], [start, end]))
        points = _POINTS if task is None else _PANEL_POINTS
        if len(grid) > points:
            keep = np.linspace(0, len(grid) - 1, points).round().astype(int)
            grid = np.unique(np.append(grid[keep], [end, grid[-1]]))
        values = np.full((len(parts), len(parts[0][1]), len(grid)), np.nan)
        for index, (steps, success) in enumerate(parts):
            inside = grid <= steps[-1]
            values[index][:, inside] = [np.interp(grid[inside], steps, rates) for rates in success]
        self.group, self.steps = group, grid
        self.runs = [(steps, success.mean(axis=0)) for steps, success in parts]
        self.mean: Array = np.nanmean(values.mean(axis=1), axis=0)
        self.whole = int((grid <= end).sum())
        covered = values[:, :, : self.whole]
        self.low, self.high = statistics.bootstrap_band(covered) if len(parts) > 1 else (None, None)


class Pair(NamedTuple):
    """How one group does against another: probability of improvement and mean lead of its curve."""

    first: Group
    second: Group
    probability: float
    interval: Interval | None
    lead: float | None


def pairs(comparison: Comparison, goals: str) -> list[Pair]:
    """Compare the groups, the better one first: each with each, or all with the best if there are many."""
    scores = {group.label: group.scores(goals) for group in comparison.evaluated(goals)}
    bands = [Band(group, goals) for group in comparison.evaluated(goals)]
    bands.sort(key=lambda band: -float(scores[band.group.label].mean()))
    improvement = statistics.probability_of_improvement
    found = []
    for index, first in enumerate(bands[:1] if len(bands) > _MANY_GROUPS else bands):
        for second in bands[index + 1 :]:
            both, lead = (scores[first.group.label], scores[second.group.label]), None
            several = min(map(len, both)) > 1
            interval = statistics.bootstrap_interval(improvement, *both) if several else None
            curves = [part[: band.whole] for band in (first, second) for part in (band.steps, band.mean)]
            if max(curves[0][0], curves[2][0]) < min(curves[0][-1], curves[2][-1]):
                lead = statistics.area_between_curves(*curves)
            found.append(Pair(first.group, second.group, float(improvement(*both)), interval, lead))
    return found


def reached(group: Group, goals: str, threshold: float) -> dict[str, Any]:
    """Return the medians of ``steps`` and ``seconds`` at which ``threshold`` was first reached in an evaluation.

    They are over the ``runs`` that reached it, ``of`` so many, and None where none did or none logged its time.
    """
    members = [member for member in group.members if goals in member.curves]
    found: dict[str, list[float]] = {"steps": [], "seconds": []}
    for member in members:
        step = statistics.steps_to_threshold(*member.curves[goals].mean(), threshold)
        if step is not None:
            found["steps"].append(step)
            steps, seconds = _logged(member.run.timing, "step", "seconds")
            if len(steps):
                found["seconds"].append(float(np.interp(step, [0, *steps], [0, *seconds])))
    medians = {name: float(np.median(values)) if values else None for name, values in found.items()}
    return medians | {"runs": len(found["steps"]), "of": len(members)}


def _logged(table: Table, *names: str) -> list[Array]:
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
    drops = []
    for curves in group.curves(goals):
        for rates in curves.success[:, : curves.final() + 1]:
            known = rates[np.isfinite(rates)]
            best = np.convolve(known, np.ones(3) / 3, "valid").max() if len(known) > 3 else known[-1]
            drops.append(max(0.0, float(best - known[-1])))
    return np.reshape(drops, (len(group.curves(goals)), -1)).mean(axis=0)


def stage_starts(group: Group) -> list[tuple[int, float]]:
    """Return (stage, step at which it began) of a group's curriculum, mean over the runs that reached it."""
    starts: dict[int, list[float]] = {}
    for member in group.members:
        steps, stages = _logged(member.run.training, "step", "stage")
        for stage in np.unique(stages[stages >= 0].astype(int)):
            starts.setdefault(int(stage), []).append(float(steps[stages == stage][0]))
    return [(stage, float(np.mean(steps))) for stage, steps in sorted(starts.items())]


def mean_logged(group: Group, log: str, column: str, summary: Callable[[Array], Any]) -> float | None:
    """Return the mean over runs of a ``summary`` of a column of their ``log``, or None where no run has it."""
    columns = (_logged(getattr(member.run, log), column)[0] for member in group.members)
    found = [summary(values) for values in columns if len(values)]
    return float(np.mean(found)) if found else None


def kept_skills(group: Group) -> dict[str, list[tuple[float, float]]]:
    """Return the success on each task of the source before and at the end, of every run that measured both."""
    found: dict[str, list[tuple[float, float]]] = {}
    for member in group.members:
        success = section(section(member.run.status, "transfer"), "source_success")
        after = section(success, "after")
        for task, before in section(success, "before").items():
            rates = (before, after.get(task))
            if all(is_number(rate) and 0 <= rate <= 1 for rate in rates):
                found.setdefault(task, []).append(rates)
    return found
