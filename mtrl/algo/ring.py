"""A ring of transitions on one device, without any notion of how they are drawn."""

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.utils import get_device

from mtrl.algo.rows import RowLayout


class TransitionRing(ReplayBuffer):
    """Transitions numbered from 0 in the order of their arrival; number ``k`` lies in row ``k % buffer_size``.

    A row is one run of float32, so that a batch is a single gather.

    Args:
        buffer_size: Capacity in transitions.
        observation_space: Flat Box.
        action_space: Flat Box.
        device: Where the transitions are kept.
        n_envs: Number of copies.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str,
        n_envs: int,
    ) -> None:
        # the constructor of stable-baselines3's buffer allocates, so its attributes are set here instead
        self.observation_space, self.action_space = observation_space, action_space
        self.obs_shape = observation_space.shape
        self.action_dim = get_action_dim(action_space)
        self.device = get_device(device)
        self.buffer_size, self.n_envs = int(buffer_size), n_envs
        self.optimize_memory_usage, self.handle_timeout_termination = False, True
        self.total_added = 0

        self._layout = RowLayout(int(np.prod(self.obs_shape)), self.action_dim)
        shape = (self.buffer_size, self._layout.width)
        if self.device.type == "cpu":
            # numpy leaves untouched pages to the operating system, torch.zeros writes them all
            self._storage = torch.from_numpy(np.zeros(shape, dtype=np.float32))
        else:
            self._storage = torch.zeros(shape, dtype=torch.float32, device=self.device)

    @property
    def pos(self) -> int:
        """Row that the next transition goes to."""
        return self.total_added % self.buffer_size

    @property
    def full(self) -> bool:
        """Whether old transitions are being overwritten."""
        return self.total_added >= self.buffer_size

    def size(self) -> int:
        """Return the number of transitions held."""
        return min(self.total_added, self.buffer_size)

    def _column(self, name: str, rows: slice | torch.Tensor = slice(None)) -> torch.Tensor:
        return self._storage[rows, self._layout.columns[name]]

    observations = property(lambda self: self._column("observations"), doc="Shape (buffer_size, obs_dim).")
    next_observations = property(lambda self: self._column("next_observations"), doc="As observations.")
    actions = property(lambda self: self._column("actions"), doc="Shape (buffer_size, action_dim).")
    rewards = property(lambda self: self._column("rewards")[:, 0], doc="Shape (buffer_size,), as received.")
    dones = property(lambda self: self._column("terminated")[:, 0], doc="Terminations, (buffer_size,).")
    timeouts = property(lambda self: self._column("truncated")[:, 0], doc="Time limits, (buffer_size,).")
    tasks = property(lambda self: self._column("tasks")[:, 0], doc="Task ids as floats, (buffer_size,).")

    def _append(self, rows: NDArray[np.float32]) -> None:
        """Write rows (n, width) over the oldest."""
        pos, n = self.pos, len(rows)
        first = min(n, self.buffer_size - pos)
        self._storage[pos : pos + first] = torch.from_numpy(rows[:first])
        if first < n:
            self._storage[: n - first] = torch.from_numpy(rows[first:])
        self.total_added += n

    def rows(self, low: int, high: int) -> dict[str, NDArray[np.generic]]:
        """Return transitions number ``low`` up to but without ``high``, in order, one array per column.

        Raises:
            ValueError: some of them are not (or no longer) held.
        """
        if not self.total_added - self.size() <= low <= high <= self.total_added:
            held = f"{self.total_added - self.size():,} to {self.total_added:,}"
            raise ValueError(f"transitions {low:,} to {high:,} are not in the buffer, which holds {held}")
        rows = np.arange(low, high) % self.buffer_size
        batch = self._storage[torch.from_numpy(rows).to(self.device)].cpu().numpy()
        return self._layout.unpack(batch)
