"""Statistics of a handful of runs: intervals and comparisons that stay honest with few seeds.

The interquartile mean, the stratified bootstrap and the probability of improvement follow Agarwal et al.,
"Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021); the tests hold them to
values of the authors' library. Scores are arrays ``(runs, tasks)``; leading axes are batched over. Intervals cover
95 %, from ``repetitions`` resamples drawn with a fixed seed: equal scores give equal intervals. One run has no
spread: intervals over runs raise ValueError.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Interval = tuple[float, float]
"""Lower and upper end of a confidence interval."""

_CONFIDENCE = 0.95
_TAIL = 50 * (1 - _CONFIDENCE)
_CHUNK = 2_000_000
"""Elements of a resampled array held at once: 16 MB."""


def wilson_interval(successes: ArrayLike, episodes: ArrayLike) -> tuple[Array, Array]:
    """Return the ends of Wilson's score interval of a success rate (JASA 22, 1927, p. 209), each shaped as the input.

    Never empty at 0 or 1, unlike the normal approximation; ``successes`` need not be whole: a rate times its episodes.
    """
    count, hits = np.asarray(episodes, dtype=float), np.asarray(successes, dtype=float)
    if np.any(count <= 0):
        raise ValueError("a success rate needs at least one episode: leave tasks without episodes out")
    if np.any(hits < 0) or np.any(hits > count * (1 + 1e-9)):
        raise ValueError("there are fewer than 0 or more successes than episodes: check what is counted")
    z = NormalDist().inv_cdf(0.5 + _CONFIDENCE / 2)
    rate = np.minimum(hits / count, 1.0)
    centre = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    return np.where(hits == 0, 0.0, centre - half), np.where(rate == 1, 1.0, centre + half)


def mean_score(scores: ArrayLike) -> Array:
    """Return the mean over runs and tasks of ``(..., runs, tasks)``."""
    return np.asarray(np.mean(np.asarray(scores, dtype=float), axis=(-2, -1)))


def interquartile_mean(scores: ArrayLike) -> Array:
    """Return the mean of the middle half of all scores in ``(..., runs, tasks)``, runs and tasks pooled.

    A quarter of the scores, rounded down, is cut off at each end, as in the authors' library.
    """
    array = np.asarray(scores, dtype=float)
    pooled = np.sort(array.reshape(*array.shape[:-2], -1), axis=-1)
    cut = pooled.shape[-1] // 4
    return np.asarray(pooled[..., cut : pooled.shape[-1] - cut].mean(axis=-1))


def bootstrap_interval(
    statistic: Callable[..., Array], *groups: ArrayLike, repetitions: int = 2000
) -> Interval:
    """Return the percentile interval of a statistic of ``groups``, runs of each drawn with replacement for each task.

    The groups are ``(runs, tasks)``; ``statistic`` maps arrays ``(n, runs, tasks)``, one of each, to ``(n,)``.
    """
    scores = [_of_several_runs(group) for group in groups]
    generator = np.random.default_rng(0)
    # Comparing two groups holds every pair of their runs.
    most = max(1, _CHUNK // (scores[0].size * math.prod(map(len, scores[1:]))))
    values = []
    for start in range(0, repetitions, most):
        samples = []
        for group in scores:
            runs, tasks = group.shape
            drawn = generator.integers(runs, size=(min(most, repetitions - start), runs, tasks))
            samples.append(group[drawn, np.arange(tasks)])
        values.append(statistic(*samples))
    low, high = np.percentile(np.concatenate(values), [_TAIL, 100 - _TAIL])
    return float(low), float(high)


def bootstrap_band(scores: ArrayLike, repetitions: int = 1000) -> tuple[Array, Array]:
    """Return the ends ``(points,)`` of the bootstrap interval of the mean at each point of ``(runs, tasks, points)``.

    The resamples are the same ones at every point.
    """
    array = _of_several_runs(scores)
    runs, tasks, points = array.shape
    # The mean of a resample is a weighted sum of the scores: one matrix product does all points at once.
    drawn = np.random.default_rng(0).integers(runs, size=(repetitions, runs, tasks))
    weights = np.stack([(drawn == run).sum(axis=1) for run in range(runs)], axis=1) / (runs * tasks)
    means = weights.reshape(repetitions, runs * tasks) @ array.reshape(runs * tasks, points)
    low, high = np.percentile(means, [_TAIL, 100 - _TAIL], axis=0)
    return low, high


def probability_of_improvement(ours: ArrayLike, theirs: ArrayLike) -> Array:
    """Return the chance that a run of ``ours`` beats one of ``theirs`` on a task, averaged over tasks; ties count half.

    That is the Mann-Whitney statistic over the number of pairs. The groups are ``(..., runs, tasks)``, of any number
    of runs and the same tasks.
    """
    first = np.asarray(ours, dtype=float)[..., :, None, :]
    second = np.asarray(theirs, dtype=float)[..., None, :, :]
    if first.shape[-1] != second.shape[-1]:
        raise ValueError("the two groups have different numbers of tasks: compare them on the same tasks")
    return np.asarray(((first > second) + 0.5 * (first == second)).mean(axis=(-3, -2, -1)))


def area_between_curves(
    steps: ArrayLike, values: ArrayLike, other_steps: ArrayLike, other: ArrayLike
) -> float:
    """Return the mean vertical distance of a curve above another, over the steps both cover.

    It is the area between the two divided by that range; curves that share no range raise ValueError.
    """
    x, y, other_x, other_y = (np.asarray(part, dtype=float) for part in (steps, values, other_steps, other))
    start, end = max(x[0], other_x[0]), min(x[-1], other_x[-1])
    if end <= start:
        raise ValueError("the two curves share no range of steps: nothing lies between them")
    grid = np.unique(np.concatenate([x, other_x]))
    grid = np.unique(np.concatenate([[start, end], grid[(grid > start) & (grid < end)]]))
    difference = np.interp(grid, x, y) - np.interp(grid, other_x, other_y)
    return float(np.trapezoid(difference, grid) / (end - start))


def steps_to_threshold(steps: ArrayLike, values: ArrayLike, threshold: float) -> float | None:
    """Return the first of ``steps`` whose value reaches ``threshold``, or None if none does."""
    reached = np.flatnonzero(np.asarray(values, dtype=float) >= threshold)
    return float(np.asarray(steps)[reached[0]]) if len(reached) else None


def _of_several_runs(scores: ArrayLike) -> Array:
    array = np.asarray(scores, dtype=float)
    if len(array) < 2:
        raise ValueError("one run has no spread over seeds: an interval needs two runs or more")
    return array
