"""Drawing from a part of a ring of transitions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl.algo.task_index import TaskIndex


class Restriction:
    """The transitions that may be drawn: those of some tasks, from some number on.

    Memory grows with the transitions that may be drawn, at most 16 bytes each.

    Args:
        n_tasks: Number of tasks.
        since: Number of the first transition that may be drawn.
        tasks: Ids of the tasks whose transitions may be drawn.
    """

    def __init__(self, n_tasks: int, since: int, tasks: Sequence[int]) -> None:
        self.since, self.tasks = since, sorted(tasks)
        self._allowed = np.isin(np.arange(n_tasks), self.tasks)
        self._index = TaskIndex(n_tasks)

    def append(self, tasks: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        """Take in those of these transitions that may be drawn, shape (n,), their numbers rising."""
        keep = self._allowed[tasks] & (numbers >= self.since)
        self._index.append(tasks[keep], numbers[keep])

    def evict(self, oldest: int) -> None:
        """Forget the transitions numbered below ``oldest``."""
        self._index.evict(oldest)

    def size(self) -> int:
        """Return how many transitions may be drawn."""
        return int(self._index.counts().sum())

    def sample(
        self, batch_size: int, generator: np.random.Generator, *, balanced: bool
    ) -> tuple[NDArray[np.int64], bool]:
        """Draw numbers with replacement, uniformly or balanced; the result is that of ``TaskIndex.sample``."""
        if balanced:
            return self._index.sample(batch_size, generator)
        return self._index.sample_uniformly(batch_size, generator), False

    def get_state(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; the transitions are known to the ring."""
        return {"since": self.since, "tasks": list(self.tasks)}
