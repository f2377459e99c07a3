"""The replay buffer: a flat ring of transitions on the learner's device, addressed by task."""

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecNormalize

from mtrl.algo.errors import NonFinite
from mtrl.algo.task_index import TaskIndex


class TaskSamples(NamedTuple):
    """A batch: the fields of stable-baselines3's ReplayBufferSamples, the tasks, and how they lie."""

    observations: torch.Tensor
    """Shape (batch, obs_dim)."""
    actions: torch.Tensor
    """Shape (batch, action_dim), scaled to -1 .. 1."""
    next_observations: torch.Tensor
    """Shape (batch, obs_dim); n steps later with n-step returns."""
    dones: torch.Tensor
    """Shape (batch, 1); 1 where the episode terminated. A time limit does not count."""
    rewards: torch.Tensor
    """Shape (batch, 1); the discounted sum over n steps with n-step returns."""
    discounts: torch.Tensor | None
    """Shape (batch, 1), gamma to the number of steps summed; None with one-step returns."""
    tasks: torch.Tensor
    """Shape (batch,), int64."""
    sorted_by_task: bool
    """Whether the batch holds equally many transitions of every task, in the order of the tasks."""


class TaskReplayBuffer(ReplayBuffer):
    """Replay buffer whose capacity counts transitions, whatever the number of copies and of tasks.

    Transitions are numbered from 0 in the order of their arrival; number ``k`` lies in row ``k %
    buffer_size`` until it is overwritten. A row is one run of float32, so that a batch is a single gather.

    Args:
        buffer_size: Capacity in transitions.
        observation_space: Flat Box.
        action_space: Flat Box.
        device: Where the transitions are kept.
        n_envs: Number of copies, which is how many transitions ``add`` is given at once.
        optimize_memory_usage: Must be False.
        n_tasks: Number of tasks; with more than one, each ``info`` must name its ``task_id``.
        balanced: Draw equally many transitions of each task instead of uniformly.
        n_steps: Sum the rewards of this many steps of one episode.
        gamma: Discount inside that sum.
        seed: Seed of the buffer's own generator.

    Raises:
        ValueError: a size that is not possible, or ``optimize_memory_usage``.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        n_tasks: int = 1,
        balanced: bool = False,
        n_steps: int = 1,
        gamma: float = 0.99,
        seed: int | None = None,
    ) -> None:
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage loses the last observation of an episode: leave it False")
        if buffer_size < n_envs:
            raise ValueError(
                f"a replay buffer of {buffer_size} transitions cannot hold one of {n_envs} copies each"
            )
        if n_steps < 1:
            raise ValueError(f"n_steps={n_steps} must be at least 1")
        # the constructor of stable-baselines3's buffer allocates, so its attributes are set here instead
        self.observation_space, self.action_space = observation_space, action_space
        self.obs_shape = observation_space.shape
        self.action_dim = get_action_dim(action_space)
        self.device = get_device(device)
        self.buffer_size, self.n_envs = int(buffer_size), n_envs
        self.optimize_memory_usage, self.handle_timeout_termination = False, True
        self.n_tasks, self.balanced, self.n_steps, self.gamma = n_tasks, balanced, n_steps, gamma

        obs_dim = int(np.prod(self.obs_shape))
        widths = [obs_dim, self.action_dim, obs_dim, 1, 1, 1, 1]
        names = [
            "observations",
            "actions",
            "next_observations",
            "rewards",
            "terminated",
            "truncated",
            "tasks",
        ]
        edges = np.cumsum([0, *widths])
        self._columns = {n: slice(int(a), int(b)) for n, a, b in zip(names, edges, edges[1:], strict=False)}
        shape = (self.buffer_size, int(edges[-1]))
        if self.device.type == "cpu":
            # numpy leaves untouched pages to the operating system, torch.zeros writes them all
            self._storage = torch.from_numpy(np.zeros(shape, dtype=np.float32))
        else:
            self._storage = torch.zeros(shape, dtype=torch.float32, device=self.device)
        self._generator = np.random.default_rng(seed)
        self.reset()

    @staticmethod
    def bytes_needed(
        buffer_size: int, obs_dim: int, action_dim: int, balanced: bool = False, n_steps: int = 1
    ) -> int:
        """Return the bytes of a full buffer: the ring, and the indices that balance and n-step returns
        need."""
        row = 4 * (2 * obs_dim + action_dim + 4)
        # a queue of transition numbers doubles when it is full
        return buffer_size * (row + (16 if balanced else 0) + (8 if n_steps > 1 else 0))

    def reset(self) -> None:
        """Forget every transition; the generator goes on."""
        self.total_added = 0
        self.dropped = 0
        self._index = TaskIndex(self.n_tasks) if self.balanced else None
        # offset to the next transition of the same episode, 0 where there is none (yet), and to the previous
        # one
        size = self.buffer_size if self.n_steps > 1 else 0
        self._next = np.zeros(size, dtype=np.int32)
        self._previous = np.zeros(size, dtype=np.int32)
        self._last_number = np.full(self.n_envs, -1, dtype=np.int64)

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
        return self._storage[rows, self._columns[name]]

    observations = property(lambda self: self._column("observations"), doc="Shape (buffer_size, obs_dim).")
    next_observations = property(lambda self: self._column("next_observations"), doc="As observations.")
    actions = property(lambda self: self._column("actions"), doc="Shape (buffer_size, action_dim).")
    rewards = property(lambda self: self._column("rewards")[:, 0], doc="Shape (buffer_size,), as received.")
    dones = property(lambda self: self._column("terminated")[:, 0], doc="Terminations, (buffer_size,).")
    timeouts = property(lambda self: self._column("truncated")[:, 0], doc="Time limits, (buffer_size,).")
    tasks = property(lambda self: self._column("tasks")[:, 0], doc="Task ids as floats, (buffer_size,).")

    def add(
        self,
        obs: NDArray[np.float32],
        next_obs: NDArray[np.float32],
        action: NDArray[np.float32],
        reward: NDArray[np.float32],
        done: NDArray[np.bool_],
        infos: list[dict[str, Any]],
    ) -> None:
        """Store one transition of each copy, in the order of the copies.

        A transition whose info says ``unstable`` (the simulation broke down) is dropped and counted.

        Raises:
            NonFinite: a NaN or an infinity; nothing of the step is stored.
            ValueError: with more than one task, an info without ``task_id``.
        """
        n = len(infos)
        columns = self._columns
        rows = np.zeros((n, self._storage.shape[1]), dtype=np.float32)
        rows[:, columns["observations"]] = obs.reshape(n, -1)
        rows[:, columns["actions"]] = action.reshape(n, -1)
        rows[:, columns["next_observations"]] = next_obs.reshape(n, -1)
        rows[:, columns["rewards"]] = np.reshape(reward, (n, 1))
        timeout = np.fromiter((info.get("TimeLimit.truncated", False) for info in infos), bool, n)
        done = np.asarray(done, dtype=bool)
        rows[:, columns["terminated"]] = (done & ~timeout)[:, None]
        rows[:, columns["truncated"]] = (done & timeout)[:, None]
        tasks = self._tasks(infos)
        rows[:, columns["tasks"]] = tasks[:, None]
        keep = np.fromiter((not info.get("unstable", False) for info in infos), bool, n)
        if not np.isfinite(rows[keep]).all():
            self._refuse(rows, tasks, keep)

        numbers = self.total_added + np.cumsum(keep) - 1
        if self.n_steps > 1:
            self._link(numbers, keep, done)
        if not keep.all():
            rows, tasks, numbers = rows[keep], tasks[keep], numbers[keep]
            self.dropped += n - len(rows)
        self._write(rows, tasks, numbers)

    def _tasks(self, infos: list[dict[str, Any]]) -> NDArray[np.int64]:
        if self.n_tasks == 1:
            return np.zeros(len(infos), dtype=np.int64)
        missing = [copy for copy, info in enumerate(infos) if "task_id" not in info]
        if missing:
            raise ValueError(
                f"the info of copy {missing[0]} lacks task_id, which a buffer of {self.n_tasks} tasks needs"
            )
        return np.fromiter((info["task_id"] for info in infos), np.int64, len(infos))

    def _refuse(self, rows: NDArray[np.float32], tasks: NDArray[np.int64], keep: NDArray[np.bool_]) -> None:
        """Name the first tensor of the first copy that is not finite."""
        copy = int(np.flatnonzero(keep & ~np.isfinite(rows).all(axis=1))[0])
        transition = {name: rows[copy, column] for name, column in self._columns.items()}
        tensor = next(name for name, values in transition.items() if not np.isfinite(values).all())
        # the new observation is the effect of this step, the old one of the step before
        singular = {"rewards": "reward", "actions": "action"}.get(tensor, "observation")
        step = self.total_added + self.dropped + len(rows)
        raise NonFinite(f"{singular} of copy {copy}", step, [int(tasks[copy])], transition)

    def _link(self, numbers: NDArray[np.int64], keep: NDArray[np.bool_], done: NDArray[np.bool_]) -> None:
        """Chain each transition to the one before it in its episode, for n-step returns."""
        last = self._last_number
        rows = numbers % self.buffer_size
        self._next[rows[keep]] = 0
        self._previous[rows[keep]] = 0
        # a predecessor that this very step overwrites is gone
        linked = keep & (last >= 0) & (last > numbers[-1] - self.buffer_size)
        offset = (numbers - last)[linked]
        self._next[last[linked] % self.buffer_size] = offset
        self._previous[rows[linked]] = offset
        self._last_number = np.where(keep & ~done, numbers, -1)

    def _write(self, rows: NDArray[np.float32], tasks: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        pos, n = self.pos, len(rows)
        first = min(n, self.buffer_size - pos)
        self._storage[pos : pos + first] = torch.from_numpy(rows[:first])
        if first < n:
            self._storage[: n - first] = torch.from_numpy(rows[first:])
        self.total_added += n
        if self._index is not None:
            self._index.append(tasks, numbers)
            self._index.evict(self.total_added - self.buffer_size)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> TaskSamples:
        """Draw a batch with replacement, normalised by ``env`` where one is given.

        Balanced batches hold ``batch_size / n_tasks`` transitions of each task, sorted by task. While a task
        has no transition at all, the others share the batch as equally as it divides.

        Raises:
            ValueError: the buffer is empty, or ``batch_size`` is not a multiple of the tasks to balance.
        """
        if self.total_added == 0:
            raise ValueError("the replay buffer is empty: collect transitions before the first update")
        balanced = False
        if self._index is None:
            rows = self._generator.integers(0, self.size(), batch_size)
        else:
            numbers, balanced = self._index.sample(batch_size, self._generator)
            rows = numbers % self.buffer_size
        return self._get_samples(rows, env)._replace(sorted_by_task=balanced)

    def _get_samples(self, batch_inds: NDArray[np.int64], env: VecNormalize | None = None) -> TaskSamples:
        """Gather the rows ``batch_inds``, shape (batch,)."""
        batch = self._storage.index_select(0, torch.from_numpy(batch_inds).to(self.device))
        parts = {name: batch[:, column] for name, column in self._columns.items()}
        tasks = parts["tasks"][:, 0].long()
        if env is not None:
            parts["observations"] = self._normalised(parts["observations"], env.normalize_obs)
            parts["rewards"] = self._normalised(parts["rewards"], env.normalize_reward)
        discounts = None
        if self.n_steps > 1:
            last, discounts = self._sum_rewards(parts, batch_inds, env)
            parts["next_observations"] = self._column("next_observations", last)
            parts["terminated"] = self._column("terminated", last)
        if env is not None:
            parts["next_observations"] = self._normalised(parts["next_observations"], env.normalize_obs)
        return TaskSamples(
            parts["observations"],
            parts["actions"],
            parts["next_observations"],
            parts["terminated"],
            parts["rewards"],
            discounts,
            tasks,
            False,
        )

    def _normalised(self, values: torch.Tensor, function: Any) -> torch.Tensor:
        return torch.as_tensor(function(values.cpu().numpy()), dtype=torch.float32, device=self.device)

    def _sum_rewards(
        self, parts: dict[str, torch.Tensor], rows: NDArray[np.int64], env: VecNormalize | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the discounted rewards of the following steps to ``parts["rewards"]``.

        As in stable-baselines3's NStepReplayBuffer, the sum stops at the end of the episode or at the newest
        transition. Returns the row of the last step of each sum (batch,), and gamma to its length (batch, 1).
        """
        rewards = parts["rewards"].clone()
        length = np.ones(len(rows), dtype=np.int64)
        last = rows.copy()
        for step in range(1, self.n_steps):
            offset = self._next[last]
            goes_on = (offset > 0) & (length == step)
            last[goes_on] = (last[goes_on] + offset[goes_on]) % self.buffer_size
            length += goes_on
            following = self._column("rewards", torch.from_numpy(last).to(self.device))
            if env is not None:
                following = self._normalised(following, env.normalize_reward)
            weight = torch.from_numpy(np.where(goes_on, self.gamma**step, 0.0).astype(np.float32)[:, None])
            rewards += following * weight.to(self.device)
        parts["rewards"] = rewards
        discounts = torch.from_numpy((self.gamma ** length.astype(np.float32)).astype(np.float32)[:, None])
        return torch.from_numpy(last).to(self.device), discounts.to(self.device)

    def mean_reward_per_task(self) -> NDArray[np.float64]:
        """Return the mean of the stored rewards of each task, shape (n_tasks,); NaN for a task without
        any."""
        tasks = self.tasks[: self.size()].long()
        counts = torch.bincount(tasks, minlength=self.n_tasks)
        sums = torch.bincount(tasks, weights=self.rewards[: self.size()].double(), minlength=self.n_tasks)
        means = sums / torch.where(counts > 0, counts, torch.nan)
        return means.cpu().numpy()

    def rows(self, low: int, high: int) -> dict[str, NDArray[np.generic]]:
        """Return transitions number ``low`` up to but without ``high``, in order, as arrays for a checkpoint.

        Raises:
            ValueError: some of them are not (or no longer) in the buffer.
        """
        if not self.total_added - self.size() <= low <= high <= self.total_added:
            held = f"{self.total_added - self.size():,} to {self.total_added:,}"
            raise ValueError(f"transitions {low:,} to {high:,} are not in the buffer, which holds {held}")
        rows = np.arange(low, high) % self.buffer_size
        batch = self._storage[torch.from_numpy(rows).to(self.device)].cpu().numpy()
        result = {name: batch[:, column] for name, column in self._columns.items()}
        for name in ("rewards", "terminated", "truncated", "tasks"):
            result[name] = result[name][:, 0]
        result |= {name: result[name].astype(np.uint8) for name in ("terminated", "truncated")}
        result["tasks"] = result["tasks"].astype(np.int32)
        if self.n_steps > 1:
            result["previous"] = self._previous[rows]
        return result

    def restore(self, total_added: int, rows: dict[str, NDArray[np.generic]]) -> None:
        """Hold the newest ``len(rows["rewards"])`` of ``total_added`` transitions, as returned by ``rows``.

        Raises:
            ValueError: they do not fit this buffer.
        """
        n = len(rows["rewards"])
        if n > self.buffer_size or n > total_added:
            raise ValueError(
                f"{n:,} of {total_added:,} transitions do not fit a buffer of {self.buffer_size:,}"
            )
        if self.n_steps > 1 and "previous" not in rows:
            raise ValueError("the transitions were saved with n_steps=1: resume with that value")
        self.reset()
        self.total_added = total_added - n
        packed = np.concatenate(
            [np.asarray(rows[name], dtype=np.float32).reshape(n, -1) for name in self._columns], axis=1
        )
        numbers = np.arange(self.total_added, total_added)
        if packed.shape[1] != self._storage.shape[1]:
            raise ValueError(
                "the saved transitions have other shapes than this buffer's observations and actions"
            )
        self._write(packed, np.asarray(rows["tasks"], dtype=np.int64), numbers)
        if self.n_steps > 1:
            self._previous[numbers % self.buffer_size] = rows["previous"]
            linked = (rows["previous"] > 0) & (numbers - rows["previous"] >= total_added - n)
            offsets = np.asarray(rows["previous"])[linked]
            self._next[(numbers[linked] - offsets) % self.buffer_size] = offsets

    def get_state(self) -> dict[str, Any]:
        """Return what the transitions do not tell, as plain values that JSON can hold."""
        return {
            "generator": self._generator.bit_generator.state,
            "last_number": self._last_number.tolist(),
            "dropped": self.dropped,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called, after ``restore``."""
        self._generator.bit_generator.state = state["generator"]
        self._last_number = np.array(state["last_number"], dtype=np.int64)
        self.dropped = state["dropped"]
