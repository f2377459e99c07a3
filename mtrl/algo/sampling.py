"""Which transitions of a ring follow each other in an episode, for n-step returns."""

from collections.abc import Sequence
from typing import Any

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


def tasks_of(infos: list[dict[str, Any]], n_tasks: int) -> NDArray[np.int64]:
    """Return the task of each copy's transition, shape (n_envs,); 0 where there is a single one.

    Raises:
        ValueError: an info has no ``task_id``, or one that is none of the tasks.
    """
    if n_tasks == 1:
        return np.zeros(len(infos), dtype=np.int64)
    missing = [copy for copy, info in enumerate(infos) if "task_id" not in info]
    if missing:
        raise ValueError(
            f"the info of copy {missing[0]} lacks task_id, which a buffer of {n_tasks} tasks needs"
        )
    tasks = np.fromiter((info["task_id"] for info in infos), np.int64, len(infos))
    unknown = np.flatnonzero((tasks < 0) | (tasks >= n_tasks))
    if len(unknown):
        raise ValueError(
            f"copy {unknown[0]} plays the task {tasks[unknown[0]]}, which is none of the {n_tasks} tasks of this "
            "buffer: n_tasks must be the number of tasks of the environments"
        )
    return tasks


def check_one_hot(obs: NDArray[np.float32], tasks: NDArray[np.int64], n_tasks: int) -> None:
    """Refuse observations, (n_envs, obs_dim), that do not end with the one-hot of their task.

    Raises:
        ValueError: naming the first copy.
    """
    ends = np.reshape(obs, (len(tasks), -1))[:, -n_tasks:]
    differing = np.flatnonzero((ends != np.eye(n_tasks, dtype=ends.dtype)[tasks]).any(axis=1))
    if len(differing):
        copy = differing[0]
        raise ValueError(
            f"the observation of copy {copy} ends with {ends[copy].tolist()}, which is not the one-hot of its task "
            f"{tasks[copy]} among {n_tasks}: heads per task need it"
        )


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


class EpisodeChain:
    """Links each transition of a ring to the one before and the one after it in its episode.

    Copies add their transitions in turns, episodes end, and transitions are dropped, so neighbours in the
    ring are not neighbours in time. What a transition follows is known when it is added and never changes;
    what follows it is not, so a checkpoint keeps the former and the latter is made from it.

    Args:
        capacity: Rows of the ring; transition ``k`` lies in row ``k % capacity``.
        n_envs: Number of copies.
    """

    def __init__(self, capacity: int, n_envs: int) -> None:
        self._capacity = capacity
        # offsets to the neighbours, 0 where there is none
        self._next = np.zeros(capacity, dtype=np.int32)
        self._previous = np.zeros(capacity, dtype=np.int32)
        self.newest = np.full(n_envs, -1, dtype=np.int64)
        """Number of each copy's newest transition, -1 where the next one starts anew, shape (n_envs,)."""

    def add(self, numbers: NDArray[np.int64], keep: NDArray[np.bool_], done: NDArray[np.bool_]) -> None:
        """Link one vector step, all shapes (n_envs,); a transition not kept breaks its episode."""
        rows = numbers % self._capacity
        self._next[rows[keep]] = 0
        self._previous[rows[keep]] = 0
        # a predecessor that this very step overwrites is gone
        linked = keep & (self.newest >= 0) & (self.newest > numbers[-1] - self._capacity)
        offset = (numbers - self.newest)[linked]
        self._next[self.newest[linked] % self._capacity] = offset
        self._previous[rows[linked]] = offset
        self.newest = np.where(keep & ~done, numbers, -1)

    def ahead(self, rows: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Follow each row for ``n`` steps, or to the end of its episode or the newest transition.

        Returns:
            The rows met, shape (batch, n), the last one repeated where there are no more; how many were met,
            (batch,).
        """
        met = np.empty((len(rows), n), dtype=np.int64)
        met[:, 0] = rows
        length = np.ones(len(rows), dtype=np.int64)
        for step in range(1, n):
            offset = self._next[met[:, step - 1]]
            met[:, step] = (met[:, step - 1] + offset) % self._capacity
            length += offset > 0
        return met, length

    def previous(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return each row's offset to the one before it, 0 for none."""
        return self._previous[rows]

    def restore(self, numbers: NDArray[np.int64], previous: NDArray[np.int32], oldest: int) -> None:
        """Link transitions as ``previous`` told of them, in order; the ring holds them from ``oldest`` on."""
        self._previous[numbers % self._capacity] = previous
        linked = (previous > 0) & (numbers - previous >= oldest)
        offset = previous[linked]
        self._next[(numbers[linked] - offset) % self._capacity] = offset
