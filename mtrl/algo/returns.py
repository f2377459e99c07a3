"""Statistics of the discounted return of each task, by which rewards are scaled."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 10.0
"""Scaled returns stay within plus and minus this (the range of the critics of FastTD3 and BRC)."""
_SAVED = ("current", "counts", "means", "squares", "largest")


class ReturnStatistics:
    """Running statistics of the discounted return, by task.

    The return of a copy is ``reward + gamma * return before``. It begins at 0 with each episode, however the last one
    ended: nothing is added for what a truncated episode would still have given.
    Rewards are divided by max(standard deviation, largest absolute value / 10) of the returns, as in FastTD3 (2025).
    BRC ("Bigger, Regularized, Categorical", 2025), from which FastTD3 took the division by task, divides by the
    largest alone, measures returns to the end of the episode, and extends truncated ones by the mean reward.
    """

    def __init__(self, n_tasks: int, n_envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.current = np.zeros(n_envs)
        self.counts, self.means, self.squares, self.largest = np.zeros((4, n_tasks))

    def add(self, rewards: NDArray[np.float64], tasks: NDArray[np.int64], ends: NDArray[np.bool_]) -> None:
        """Add one vector step, all shapes (n_envs,); ``ends`` marks the last step of an episode."""
        self.current = rewards + self.gamma * self.current
        new = np.bincount(tasks, minlength=len(self.counts))
        means = np.bincount(tasks, self.current, len(self.counts)) / np.maximum(new, 1)
        spread = np.bincount(tasks, (self.current - means[tasks]) ** 2, len(self.counts))
        # Chan's formula joins the moments of two samples.
        counts = self.counts + new
        share = new / np.maximum(counts, 1)
        apart = np.where(new > 0, means - self.means, 0.0)
        self.squares += spread + apart**2 * self.counts * share
        self.means += apart * share
        self.counts = counts
        np.maximum.at(self.largest, tasks, np.abs(self.current))
        self.current[ends] = 0.0

    def begin_with(self, task: int, factor: float) -> None:
        """Multiply the rewards of ``task`` by no more than ``factor``, which its critic has learned with."""
        self.largest[task] = LARGEST / factor

    def factors(self) -> NDArray[np.float64]:
        """Return what the rewards of each task are multiplied by, shape (n_tasks,); 1 for a task without returns."""
        deviation = np.sqrt(self.squares / np.maximum(self.counts, 1))
        size = np.maximum(deviation, self.largest / LARGEST)
        return np.divide(1.0, size, out=np.ones_like(size), where=size > 0)

    def get_state(self) -> dict[str, Any]:
        """Return the state as plain values that JSON can hold."""
        return {name: getattr(self, name).tolist() for name in _SAVED}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called."""
        for name in _SAVED:
            setattr(self, name, np.array(state[name], dtype=np.float64))
