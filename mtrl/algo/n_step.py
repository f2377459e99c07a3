"""Which transitions of a ring follow each other in an episode, for n-step returns."""

import numpy as np
from numpy.typing import NDArray


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
