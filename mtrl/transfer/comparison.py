"""Compares a transferred run with the same run from scratch: was the transfer worth it?"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from mtrl import statistics
from mtrl.config.types import GOALS
from mtrl.errors import ConfigurationError
from mtrl.rundir.curves import curves_of
from mtrl.rundir.run import Run

THRESHOLDS = (0.5, 0.8)
"""Mean success rates; the two runs are compared by the step at which they first reach each of them."""


def compare(transferred: Path, scratch: Path) -> dict[str, Any]:
    """Return the evaluations of two run directories side by side, as plain values.

    The goals are the training ones if both runs were evaluated on those, and held-out ones otherwise. ``area`` is
    the mean height of the success curve over the environment steps that both curves cover, ``area_between`` the
    difference; ``forgetting`` the success on the source's tasks before and after training.

    Raises:
        ConfigurationError: The two have no evaluation of all tasks on the same goals.
    """
    runs = {"transfer": Run(transferred), "scratch": Run(scratch)}
    kinds = {name: curves_of(run, run.tasks) for name, run in runs.items()}
    goals = next((goals for goals in GOALS if all(goals in found for found in kinds.values())), None)
    if goals is None:
        raise ConfigurationError(
            f"{transferred} and {scratch} have no evaluations on the same goals: there is nothing to compare"
        )
    curves = {name: found[goals].mean() for name, found in kinds.items()}
    low = max(int(steps[0]) for steps, _ in curves.values())
    high = min(int(steps[-1]) for steps, _ in curves.values())
    areas = {name: _area(*curve, low, high) for name, curve in curves.items()}
    return {
        "runs": {"transfer": str(transferred), "scratch": str(scratch)},
        "goals": goals,
        "steps": [low, high],
        "area": areas,
        "area_between": areas["transfer"] - areas["scratch"],
        "steps_to": {
            name: {str(threshold): _steps_to(*curve, threshold) for threshold in THRESHOLDS}
            for name, curve in curves.items()
        },
        "final": {name: float(success[-1]) for name, (_, success) in curves.items()},
        "curves": {
            name: {"step": steps.astype(int).tolist(), "success_rate": success.tolist()}
            for name, (steps, success) in curves.items()
        },
        "forgetting": (runs["transfer"].status.get("transfer") or {}).get("source_success", {}),
    }


def _area(steps: NDArray[np.float64], success: NDArray[np.float64], low: int, high: int) -> float:
    if high <= low:
        return float(np.interp(low, steps, success))
    return statistics.area_between_curves(steps, success, [low, high], [0, 0])


def _steps_to(steps: NDArray[np.float64], success: NDArray[np.float64], threshold: float) -> int | None:
    step = statistics.steps_to_threshold(steps, success, threshold)
    return None if step is None else int(step)


def table(comparison: dict[str, Any]) -> Table:
    """Return the comparison for a person to read."""
    low, high = comparison["steps"]
    sides = ("transfer", "scratch")
    shown = Table("", *sides, title="the same run with transfer and from scratch")
    for column in shown.columns[1:]:
        column.justify = "right"
    shown.add_row(
        f"mean success over steps {low:,} to {high:,}", *(f"{comparison['area'][side]:.1%}" for side in sides)
    )
    for threshold in map(str, THRESHOLDS):
        steps = [comparison["steps_to"][side][threshold] for side in sides]
        cells = ("never" if step is None else f"{step:,}" for step in steps)
        shown.add_row(f"steps to {float(threshold):.0%} success", *cells)
    shown.add_row("final success", *(f"{comparison['final'][side]:.1%}" for side in sides))
    after = comparison["forgetting"].get("after", {})
    for task, before in comparison["forgetting"].get("before", {}).items():
        change = f"{before:.1%}, {after[task]:.1%}" if task in after else f"{before:.1%}"
        shown.add_row(f"{task} (source): before, after", change, "")
    return shown
