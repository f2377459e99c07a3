"""Compares a transferred run with the same run from scratch: was the transfer worth it?"""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from mtrl import statistics
from mtrl.config.types import GOALS, require
from mtrl.rundir.run import Run, curves_of

SIDES = ("transfer", "scratch")
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
    runs = [Run(transferred), Run(scratch)]
    found = [curves_of(run, run.tasks) for run in runs]
    goals = next((goals for goals in GOALS if all(goals in curves for curves in found)), None)
    nothing = (
        f"{transferred} and {scratch} have no evaluations on the same goals: there is nothing to compare"
    )
    require(goals is not None, nothing)
    curves = {side: curves[goals].mean() for side, curves in zip(SIDES, found, strict=True)}
    low = max(int(steps[0]) for steps, _ in curves.values())
    high = min(int(steps[-1]) for steps, _ in curves.values())
    areas, steps_to, final, plain = {}, {}, {}, {}
    for side, (steps, success) in curves.items():
        areas[side] = float(np.interp(low, steps, success))
        if high > low:
            areas[side] = statistics.area_between_curves(steps, success, [low, high], [0, 0])
        first = {at: statistics.steps_to_threshold(steps, success, at) for at in THRESHOLDS}
        steps_to[side] = {str(at): None if step is None else int(step) for at, step in first.items()}
        final[side] = float(success[-1])
        plain[side] = {"step": steps.astype(int).tolist(), "success_rate": success.tolist()}
    return {
        "runs": {"transfer": str(transferred), "scratch": str(scratch)},
        "goals": goals,
        "steps": [low, high],
        "area": areas,
        "area_between": areas["transfer"] - areas["scratch"],
        "steps_to": steps_to,
        "final": final,
        "curves": plain,
        "forgetting": (runs[0].status.get("transfer") or {}).get("source_success", {}),
    }


def table(comparison: dict[str, Any]) -> Table:
    """Return the comparison for a person to read."""
    low, high = comparison["steps"]
    shown = Table("", *SIDES, title="the same run with transfer and from scratch")
    for column in shown.columns[1:]:
        column.justify = "right"
    areas, finals = ([f"{comparison[key][side]:.1%}" for side in SIDES] for key in ("area", "final"))
    shown.add_row(f"mean success over steps {low:,} to {high:,}", *areas)
    for threshold in map(str, THRESHOLDS):
        steps = [comparison["steps_to"][side][threshold] for side in SIDES]
        cells = ("never" if step is None else f"{step:,}" for step in steps)
        shown.add_row(f"steps to {float(threshold):.0%} success", *cells)
    shown.add_row("final success", *finals)
    after = comparison["forgetting"].get("after", {})
    for task, before in comparison["forgetting"].get("before", {}).items():
        change = f"{before:.1%}, {after[task]:.1%}" if task in after else f"{before:.1%}"
        shown.add_row(f"{task} (source): before, after", change, "")
    return shown
