"""What a ring of transitions knows of them: their tasks, their places in episodes, the size of their returns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints, Floats, Bools = NDArray[np.int64], NDArray[np.floating], NDArray[np.bool_]

LARGEST = 10.0
"""Scaled returns stay within plus and minus this (the range of the critics of FastTD3 and BRC)."""


class TaskIndex:
    """A queue of transition numbers per task, which loses its front as the ring overwrites the oldest.

    Memory grows and shrinks with the transitions held, at most 16 bytes each, not with tasks times capacity.
    Transitions before number ``since``, and those of tasks other than ``tasks`` (None: all), are not taken in.
    """

    def __init__(self, n_tasks: int, since: int = 0, tasks: Sequence[int] | None = None) -> None:
        self.since, self.tasks = since, sorted(range(n_tasks) if tasks is None else tasks)
        self._allowed = np.isin(np.arange(n_tasks), self.tasks)
        self._numbers = [np.zeros(0, dtype=np.int64) for _ in range(n_tasks)]
        self._start, self._end = np.zeros((2, n_tasks), dtype=np.int64)

    def counts(self) -> Ints:
        """Return how many transitions each task has, shape (n_tasks,)."""
        return self._end - self._start

    def append(self, tasks: Ints, numbers: Ints, oldest: int) -> None:
        """Take in transitions, (n,), their numbers rising and larger than all before; forget those below ``oldest``."""
        for task in np.unique(tasks):
            if not self._allowed[task]:
                continue
            new = numbers[(tasks == task) & (numbers >= self.since)]
            if self._end[task] + len(new) > len(self._numbers[task]):
                self._resize(task, room=len(new))
            end = self._end[task] + len(new)
            self._numbers[task][self._end[task] : end] = new
            self._end[task] = end
        if oldest <= 0:
            return
        for task, queue in enumerate(self._numbers):
            start, end = self._start[task], self._end[task]
            if start < end and queue[start] < oldest:
                self._start[task] += np.searchsorted(queue[start:end], oldest)
                if len(queue) > 2 * (end - self._start[task]):
                    self._resize(task)

    def _resize(self, task: int, room: int = 0) -> None:
        """Make a queue half as long again as what it holds and ``room`` more, so that this is seldom needed."""
        live = self._numbers[task][self._start[task] : self._end[task]]
        wanted = len(live) + room
        self._numbers[task] = np.zeros(wanted + wanted // 2, dtype=np.int64)
        self._numbers[task][: len(live)] = live
        self._start[task], self._end[task] = 0, len(live)

    def sample(self, batch_size: int, generator: np.random.Generator) -> tuple[Ints, bool]:
        """Draw equally many numbers of each task, with replacement, sorted by task.

        While a task has none, the others share the batch as equally as it divides. Returns the numbers
        (batch_size,), and whether every task has its equal share.
        """
        n_tasks, counts = len(self._numbers), self.counts()
        if batch_size % n_tasks:
            raise ValueError(
                f"a balanced batch of {batch_size} does not divide by {n_tasks} tasks: use a multiple"
            )
        present = np.flatnonzero(counts)
        share, rest = divmod(batch_size, len(present))
        shares = share + (np.arange(len(present)) < rest)
        ranks = generator.integers(0, np.repeat(counts[present], shares))
        of_each = zip(present, np.split(ranks, np.cumsum(shares)[:-1]), strict=True)
        drawn = [self._numbers[task][self._start[task] + rank] for task, rank in of_each]
        return np.concatenate(drawn), len(present) == n_tasks

    def sample_uniformly(self, batch_size: int, generator: np.random.Generator) -> Ints:
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


class EpisodeChain:
    """Links each transition of a ring to the one before and the one after it in its episode, for n-step returns.

    Copies add their transitions in turns, episodes end, and transitions are dropped, so neighbours in the
    ring (transition ``k`` in row ``k % capacity``) are not neighbours in time. What a transition follows is known
    when it is added and never changes; what follows it is not, so a checkpoint keeps only the former.
    """

    def __init__(self, capacity: int, n_envs: int) -> None:
        self._capacity = capacity
        self._next = np.zeros(capacity, dtype=np.int32)
        self.previous = np.zeros(capacity, dtype=np.int32)
        """Each row's offset to the one before it, 0 where there is none; ``_next`` is that to the one after it."""
        self.newest = np.full(n_envs, -1, dtype=np.int64)
        """Number of each copy's newest transition, -1 where the next one follows none, shape (n_envs,)."""

    def add(self, numbers: Ints, keep: Bools, done: Bools) -> None:
        """Link one vector step, all shapes (n_envs,); a transition not kept breaks its episode."""
        rows = numbers % self._capacity
        self._next[rows[keep]] = 0
        self.previous[rows[keep]] = 0
        # a predecessor that this very step overwrites is gone
        linked = keep & (self.newest >= 0) & (self.newest > numbers[-1] - self._capacity)
        offset = (numbers - self.newest)[linked]
        self._next[self.newest[linked] % self._capacity] = offset
        self.previous[rows[linked]] = offset
        self.newest = np.where(keep & ~done, numbers, -1)

    def ahead(self, rows: Ints, n: int) -> tuple[Ints, Ints]:
        """Follow each row for ``n`` steps, or to the end of its episode or the newest transition.

        Returns the rows met, (batch, n), the last repeated where there are no more, and how many were met, (batch,).
        """
        met = np.empty((len(rows), n), dtype=np.int64)
        met[:, 0] = rows
        length = np.ones(len(rows), dtype=np.int64)
        for step in range(1, n):
            offset = self._next[met[:, step - 1]]
            met[:, step] = (met[:, step - 1] + offset) % self._capacity
            length += offset > 0
        return met, length

    def restore(self, numbers: Ints, previous: NDArray[np.int32], oldest: int) -> None:
        """Link transitions by what ``previous`` was of them, in order; the ring begins at ``oldest``."""
        self.previous[numbers % self._capacity] = previous
        linked = (previous > 0) & (numbers - previous >= oldest)
        offset = previous[linked]
        self._next[(numbers[linked] - offset) % self._capacity] = offset


class ReturnStatistics:
    """Running statistics of the discounted return, by task.

    The return of a copy is ``reward + gamma * return before``, and 0 as an episode begins, however the last one ended.
    Rewards are divided by max(standard deviation, largest absolute value / 10) of the returns, as in FastTD3 (2025).
    BRC ("Bigger, Regularized, Categorical", 2025), from which FastTD3 took the division by task, divides by the
    largest alone, measures returns to the end of the episode, and extends truncated ones by the mean reward.
    """

    def __init__(self, n_tasks: int, n_envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.current = np.zeros(n_envs)
        self.counts, self.means, self.squares, self.largest = np.zeros((4, n_tasks))

    def add(self, rewards: Floats, tasks: Ints, ends: Bools) -> None:
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

    def factors(self) -> Floats:
        """Return what the rewards of each task are multiplied by, shape (n_tasks,); 1 for a task without returns."""
        deviation = np.sqrt(self.squares / np.maximum(self.counts, 1))
        size = np.maximum(deviation, self.largest / LARGEST)
        return np.divide(1.0, size, out=np.ones_like(size), where=size > 0)

    def get_state(self) -> dict[str, Any]:
        """Return the state as plain values that JSON can hold."""
        return {name: values.tolist() for name, values in vars(self).items() if name != "gamma"}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called."""
        for name in vars(self).keys() - {"gamma"}:
            setattr(self, name, np.array(state[name], dtype=np.float64))
