"""A run that began from another one beside the same run from scratch: was the transfer worth it?"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from mtrl.config import GOALS
from mtrl.errors import ConfigurationError
from mtrl.rundir.curves import Curves, curves_of
from mtrl.rundir.run import Run

THRESHOLDS = (0.5, 0.8)
"""Mean success rates whose first evaluation is compared."""


def compare(transferred: Path, scratch: Path) -> dict[str, Any]:
    """Return what the evaluations of two run directories say, as plain values.

    The goals are the training ones if both were evaluated on those, and held-out ones otherwise. ``area`` is
    the mean height of the success curve over the environment steps that both have evaluations of,
    ``area_between`` the difference; ``forgetting`` the success on the source's tasks before and after.

    Raises:
        ConfigurationError: The two have no evaluation of all tasks on the same goals.
    """
    kinds = {"transfer": _curves(transferred), "scratch": _curves(scratch)}
    goals = next((goals for goals in GOALS if all(goals in found for found in kinds.values())), None)
    if goals is None:
        raise ConfigurationError(
            f"{transferred} and {scratch} have no evaluations on the same goals: there is nothing to compare"
        )
    curves = {name: found[goals].mean() for name, found in kinds.items()}
    low = max(int(steps[0]) for steps, _ in curves.values())
    high = min(int(steps[-1]) for steps, _ in curves.values())
    areas = {name: _area(*points, low, high) for name, points in curves.items()}
    return {
        "runs": {"transfer": str(transferred), "scratch": str(scratch)},
        "goals": goals,
        "steps": [low, high],
        "area": areas,
        "area_between": areas["transfer"] - areas["scratch"],
        "steps_to": {
            name: {str(threshold): _reached(*points, threshold) for threshold in THRESHOLDS}
            for name, points in curves.items()
        },
        "final": {name: float(success[-1]) for name, (_, success) in curves.items()},
        "curves": {
            name: {"step": steps.astype(int).tolist(), "success_rate": success.tolist()}
            for name, (steps, success) in curves.items()
        },
        "forgetting": (Run(transferred).status.get("transfer") or {}).get("source_success", {}),
    }


def _curves(path: Path) -> dict[str, Curves]:
    run = Run(path)
    return curves_of(run, run.tasks)


def _area(steps: NDArray[np.float64], success: NDArray[np.float64], low: int, high: int) -> float:
    if high <= low:
        return float(np.interp(low, steps, success))
    inside = steps[(steps > low) & (steps < high)]
    at = np.array([low, *inside, high])
    return float(np.trapezoid(np.interp(at, steps, success), at) / (high - low))


def _reached(steps: NDArray[np.float64], success: NDArray[np.float64], threshold: float) -> int | None:
    reached = np.flatnonzero(success >= threshold)
    return int(steps[reached[0]]) if len(reached) else None


def table(comparison: dict[str, Any]) -> Table:
    """Return the comparison for a person to read."""
    shown = Table(title="the same run from another's weights and from scratch")
    for column in ("", "transfer", "scratch"):
        shown.add_column(column, justify="left" if not column else "right")
    low, high = comparison["steps"]
    area, final = comparison["area"], comparison["final"]
    shown.add_row(
        f"mean success over steps {low:,} to {high:,}", f"{area['transfer']:.1%}", f"{area['scratch']:.1%}"
    )
    for threshold in map(str, THRESHOLDS):
        reached = [comparison["steps_to"][name][threshold] for name in ("transfer", "scratch")]
        cells = ["never" if step is None else f"{step:,}" for step in reached]
        shown.add_row(f"steps to {float(threshold):.0%} success", *cells)
    shown.add_row("final success", f"{final['transfer']:.1%}", f"{final['scratch']:.1%}")
    forgetting = comparison["forgetting"]
    for task, before in forgetting.get("before", {}).items():
        after = forgetting.get("after", {}).get(task)
        shown.add_row(
            f"{task} (source): before, after", f"{before:.1%}, {'' if after is None else f'{after:.1%}'}", ""
        )
    return shown
