"""The evaluations of a run as learning curves, one for each kind of goals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtrl.rundir.run import Run


@dataclass(slots=True)
class Curves:
    """The evaluations of one run on one kind of goals; NaN where a task was not evaluated."""

    steps: NDArray[np.float64]
    """``(evaluations,)`` environment steps, rising."""
    success: NDArray[np.float64]
    """``(tasks, evaluations)`` success rates. The others have the same shape, means over the episodes."""
    returns: NDArray[np.float64]
    lengths: NDArray[np.float64]
    episodes: NDArray[np.float64]

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Which evaluations cover every task."""
        return np.isfinite(self.success).all(axis=0)

    def mean(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return steps and mean success over tasks of the complete evaluations."""
        return self.steps[self.complete], self.success[:, self.complete].mean(axis=0)

    def final(self) -> int:
        """Return the index of the last complete evaluation."""
        return int(np.flatnonzero(self.complete)[-1])


def curves_of(run: Run, tasks: tuple[str, ...], until: int | None = None) -> dict[str, Curves]:
    """Return the evaluations of a run by kind of goals, as far as one covers every task.

    Args:
        run: The run.
        tasks: Its tasks.
        until: Ignore evaluations after this environment step; None uses all.
    """
    table, found = run.evaluation, {}
    if not len(table):
        return found
    place = {task: index for index, task in enumerate(tasks)}
    task_index = np.array([place.get(task, -1) for task in table["task"].tolist()])
    for goals in ("train", "heldout"):
        rows = (table["goals"] == goals) & (task_index >= 0)
        if until is not None:
            rows &= table["step"] <= until
        if not rows.any():
            continue
        steps, at = np.unique(table["step"][rows], return_inverse=True)
        # An official evaluation beside a short one at the same step wins, whatever their order in the file.
        order = np.argsort(table["episodes"][rows], kind="stable")
        columns = []
        for name in ("success_rate", "mean_return", "mean_length", "episodes"):
            values = np.full((len(tasks), len(steps)), np.nan)
            if name in table.columns:
                values[task_index[rows][order], at[order]] = table[name][rows][order]
            columns.append(values)
        curves = Curves(steps, *columns)
        if curves.complete.any():
            found[goals] = curves
    return found
