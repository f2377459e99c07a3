"""Which transitions of a ring belong to which task."""

import numpy as np
from numpy.typing import NDArray


class TaskIndex:
    """A queue of transition numbers per task; a ring overwrites the oldest, so each queue loses its front.

    Memory grows and shrinks with the transitions held, at most 16 bytes each, not with tasks times capacity.

    Args:
        n_tasks: Number of tasks.
    """

    def __init__(self, n_tasks: int) -> None:
        self._numbers = [np.zeros(0, dtype=np.int64) for _ in range(n_tasks)]
        self._start = np.zeros(n_tasks, dtype=np.int64)
        self._end = np.zeros(n_tasks, dtype=np.int64)

    def counts(self) -> NDArray[np.int64]:
        """Return how many transitions each task has, shape (n_tasks,)."""
        return self._end - self._start

    def append(self, tasks: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        """Add transitions, shape (n,), their numbers rising and larger than all before."""
        for task in np.unique(tasks):
            new = numbers[tasks == task]
            start, end = self._start[task], self._end[task]
            if end + len(new) > len(self._numbers[task]):
                self._resize(task, room=len(new))
                start, end = self._start[task], self._end[task]
            self._numbers[task][end : end + len(new)] = new
            self._start[task], self._end[task] = start, end + len(new)

    def evict(self, oldest: int) -> None:
        """Forget the transitions numbered below ``oldest``."""
        if oldest <= 0:
            return
        for task, numbers in enumerate(self._numbers):
            start, end = self._start[task], self._end[task]
            if start < end and numbers[start] < oldest:
                self._start[task] += np.searchsorted(numbers[start:end], oldest)
                if len(numbers) > 2 * (end - self._start[task]):
                    self._resize(task)

    def _resize(self, task: int, room: int = 0) -> None:
        """Make a queue half as long again as what it holds and ``room`` more, so that this is seldom needed."""
        live = self._numbers[task][self._start[task] : self._end[task]]
        wanted = len(live) + room
        self._numbers[task] = np.zeros(wanted + wanted // 2, dtype=np.int64)
        self._numbers[task][: len(live)] = live
        self._start[task], self._end[task] = 0, len(live)

    def sample(self, batch_size: int, generator: np.random.Generator) -> tuple[NDArray[np.int64], bool]:
        """Draw equally many numbers of each task, with replacement, sorted by task.

        Returns:
            The numbers (batch_size,), and whether every task has its equal share. While a task has none, the
            others share the batch as equally as it divides.

        Raises:
            ValueError: ``batch_size`` is not a multiple of the number of tasks.
        """
        n_tasks = len(self._numbers)
        if batch_size % n_tasks:
            raise ValueError(
                f"a balanced batch of {batch_size} does not divide by {n_tasks} tasks: use a multiple"
            )
        counts = self.counts()
        present = np.flatnonzero(counts)
        share, rest = divmod(batch_size, len(present))
        shares = np.full(len(present), share)
        shares[:rest] += 1
        ranks = generator.integers(0, np.repeat(counts[present], shares))
        drawn = [
            self._numbers[task][self._start[task] + rank]
            for task, rank in zip(present, np.split(ranks, np.cumsum(shares)[:-1]), strict=True)
        ]
        return np.concatenate(drawn), len(present) == n_tasks

    def sample_uniformly(self, batch_size: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw numbers, shape (batch_size,), with replacement, each with the same chance whatever its task."""
        counts = self.counts()
        ends = np.cumsum(counts)
        ranks = generator.integers(0, ends[-1], batch_size)
        tasks = np.searchsorted(ends, ranks, side="right")
        drawn = np.empty(batch_size, dtype=np.int64)
        for task in np.unique(tasks):
            chosen = tasks == task
            first = ends[task] - counts[task]
            drawn[chosen] = self._numbers[task][self._start[task] + ranks[chosen] - first]
        return drawn
