"""The replay buffer: a ring of transitions on the learner's device, addressed by task."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecNormalize

from mtrl.algo.sampling import EpisodeChain, Restriction, TaskIndex, check_one_hot, tasks_of
from mtrl.errors import NonFinite


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


_NAMES = ("observations", "actions", "next_observations", "rewards", "terminated", "truncated", "tasks")
_KEPT_AS = {"terminated": np.uint8, "truncated": np.uint8, "tasks": np.int32}
_SINGULAR = {"rewards": "reward", "actions": "action"}


class RowLayout:
    """The columns of observation, action, next observation, reward, termination, time limit and task.

    Args:
        obs_dim: Width of an observation.
        action_dim: Width of an action.
    """

    def __init__(self, obs_dim: int, action_dim: int) -> None:
        edges = np.cumsum([0, obs_dim, action_dim, obs_dim, 1, 1, 1, 1]).tolist()
        self.columns = dict(zip(_NAMES, map(slice, edges, edges[1:]), strict=True))
        self.width = edges[-1]

    def pack(
        self,
        obs: NDArray[np.float32],
        next_obs: NDArray[np.float32],
        action: NDArray[np.float32],
        reward: NDArray[np.float32],
        done: NDArray[np.bool_],
        timeout: NDArray[np.bool_],
        tasks: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return rows (n, width); an episode that a time limit ended did not terminate."""
        n = len(tasks)
        parts = (obs, action, next_obs, reward, done & ~timeout, done & timeout, tasks)
        return np.concatenate([np.reshape(part, (n, -1)) for part in parts], axis=1, dtype=np.float32)

    def unpack(self, rows: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        """Return rows as one array per column, flags and tasks as integers: what a checkpoint keeps."""
        parts = {name: rows[:, column] for name, column in self.columns.items()}
        for name in ("rewards", "terminated", "truncated", "tasks"):
            parts[name] = parts[name][:, 0].astype(_KEPT_AS.get(name, np.float32))
        return parts

    def repack(self, parts: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """Return the rows that ``unpack`` took apart.

        Raises:
            ValueError: they have other widths than this layout.
        """
        n = len(parts["rewards"])
        rows = np.concatenate(
            [np.asarray(parts[name], dtype=np.float32).reshape(n, -1) for name in _NAMES], axis=1
        )
        if n and rows.shape[1] != self.width:
            raise ValueError(
                "the saved transitions have other shapes than this buffer's observations and actions"
            )
        return rows.reshape(n, self.width)

    def check_finite(self, rows: NDArray[np.float32], keep: NDArray[np.bool_], step: int) -> None:
        """Refuse the rows (one per copy) to ``keep`` if a number among them is NaN or infinite.

        Raises:
            NonFinite: naming the first such tensor, its copy and its task.
        """
        wrong = keep & ~np.isfinite(rows).all(axis=1)
        if not wrong.any():
            return
        copy = int(np.flatnonzero(wrong)[0])
        transition = {name: rows[copy, column] for name, column in self.columns.items()}
        tensor = next(name for name, values in transition.items() if not np.isfinite(values).all())
        name = f"{_SINGULAR.get(tensor, 'observation')} of copy {copy}"
        raise NonFinite(name, step, [int(transition["tasks"][0])], transition)


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


class TaskReplayBuffer(TransitionRing):
    """Replay buffer whose capacity counts transitions, whatever the number of copies and of tasks.

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
        one_hot: Observations end with the one-hot of their task, which then must be that of ``task_id``.

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
        one_hot: bool = False,
    ) -> None:
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage loses the last observation of an episode: leave it False")
        if buffer_size < n_envs:
            raise ValueError(
                f"a replay buffer of {buffer_size} transitions cannot hold one of {n_envs} copies each"
            )
        if n_steps < 1:
            raise ValueError(f"n_steps={n_steps} must be at least 1")
        if one_hot and math.prod(observation_space.shape) < n_tasks:
            raise ValueError(
                f"observations of shape {observation_space.shape} cannot end with the one-hot of {n_tasks} tasks"
            )
        super().__init__(buffer_size, observation_space, action_space, device, n_envs)
        self.n_tasks, self.balanced, self.n_steps, self.gamma = n_tasks, balanced, n_steps, gamma
        self.one_hot = one_hot
        self._generator = np.random.default_rng(seed)
        self.reset()

    def reset(self) -> None:
        """Forget every transition; the generator goes on."""
        self.total_added = 0
        self.dropped = 0
        self.imported = 0
        """Transitions that another run collected."""
        self.playing = np.full(self.n_envs, -1)
        """Task of the episode that each copy is in, -1 where that is not known, shape (n_envs,)."""
        self._index = TaskIndex(self.n_tasks) if self.balanced else None
        self._chain = EpisodeChain(self.buffer_size, self.n_envs) if self.n_steps > 1 else None
        self._restriction: Restriction | None = None

    def restrict(self, since: int = 0, tasks: Sequence[int] | None = None) -> None:
        """Draw only some transitions, of those held and those to come, until the next call.

        Nothing is deleted, so a later call may let in again what this one leaves out. While there are fewer
        than a batch of them, ``sample`` draws from all: a few transitions are not learned by heart.

        Args:
            since: Number of the first transition to draw, ``total_added`` for those to come alone.
            tasks: Ids of the tasks to draw, None for all.
        """
        self._restriction = None
        if since == 0 and tasks is None:
            return
        self._restriction = Restriction(self.n_tasks, since, range(self.n_tasks) if tasks is None else tasks)
        held = np.arange(max(since, self.total_added - self.size()), self.total_added)
        rows = torch.from_numpy(held % self.buffer_size).to(self.device)
        self._restriction.append(self.tasks[rows].cpu().numpy().astype(np.int64), held)

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
            ValueError: with more than one task, an info without ``task_id``, with one outside of the tasks, or
                with another than the observation's one-hot.
        """
        n = len(infos)
        timeout = np.fromiter((info.get("TimeLimit.truncated", False) for info in infos), bool, n)
        keep = np.fromiter((not info.get("unstable", False) for info in infos), bool, n)
        tasks, done = tasks_of(infos, self.n_tasks), np.asarray(done, dtype=bool)
        if self.one_hot:
            check_one_hot(obs, tasks, self.n_tasks)
        rows = self._layout.pack(obs, next_obs, action, reward, done, timeout, tasks)
        self._layout.check_finite(rows, keep, self.total_added - self.imported + self.dropped + n)

        self.playing = np.where(done, -1, tasks)
        numbers = self.total_added + np.cumsum(keep) - 1
        if self._chain is not None:
            self._chain.add(numbers, keep, done)
        if not keep.all():
            rows, tasks, numbers = rows[keep], tasks[keep], numbers[keep]
            self.dropped += n - len(rows)
        self._write(rows, tasks, numbers)

    def end_episodes(self) -> None:
        """Let no return reach from the newest transition of a copy to its next: the copies were reset."""
        self.playing.fill(-1)
        if self._chain is not None:
            self._chain.newest.fill(-1)

    def _write(self, rows: NDArray[np.float32], tasks: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        self._append(rows)
        if self._index is not None:
            self._index.append(tasks, numbers)
            self._index.evict(self.total_added - self.buffer_size)
        if self._restriction is not None:
            self._restriction.append(tasks, numbers)
            self._restriction.evict(self.total_added - self.buffer_size)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> TaskSamples:
        """Draw a batch with replacement, normalised by ``env`` where one is given.

        Balanced batches hold ``batch_size / n_tasks`` transitions of each task, sorted by task. While a task
        has no transition at all, the others share the batch as equally as it divides.

        Raises:
            ValueError: the buffer is empty, or ``batch_size`` is not a multiple of the tasks to balance.
        """
        if self.total_added == 0:
            raise ValueError("the replay buffer is empty: collect transitions before the first update")
        rows, balanced = self._draw(batch_size)
        return self._get_samples(rows, env)._replace(sorted_by_task=balanced)

    def spread(self, batch_size: int, env: VecNormalize | None = None) -> TaskSamples:
        """Return transitions spread evenly over all that are held; unlike ``sample``, nothing is drawn."""
        rows = np.linspace(0, self.size() - 1, batch_size).astype(np.int64)
        return self._get_samples(rows, env)

    def _draw(self, batch_size: int) -> tuple[NDArray[np.int64], bool]:
        """Return rows, shape (batch_size,), and whether they are balanced and sorted by task."""
        if self._restriction is not None and self._restriction.size() >= batch_size:
            numbers, balanced = self._restriction.sample(batch_size, self._generator, balanced=self.balanced)
        elif self._index is not None:
            numbers, balanced = self._index.sample(batch_size, self._generator)
        else:
            return self._generator.integers(0, self.size(), batch_size), False
        return numbers % self.buffer_size, balanced

    def _get_samples(self, batch_inds: NDArray[np.int64], env: VecNormalize | None = None) -> TaskSamples:
        """Gather the rows ``batch_inds``, shape (batch,)."""
        batch = self._storage.index_select(0, torch.from_numpy(batch_inds).to(self.device))
        parts = {name: batch[:, column] for name, column in self._layout.columns.items()}
        tasks = parts["tasks"][:, 0].long()
        if env is not None:
            parts["observations"] = self._normalised(parts["observations"], env.normalize_obs)
            parts["rewards"] = self._normalised(parts["rewards"], env.normalize_reward)
        discounts = None
        if self._chain is not None:
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
        """Make ``parts["rewards"]`` the discounted sums of the rewards of ``n_steps`` steps.

        As in stable-baselines3's NStepReplayBuffer, a sum stops at the end of the episode or at the newest
        transition. Returns the row of the last step of each sum (batch,), and gamma to its length (batch, 1).
        """
        met, length = self._chain.ahead(rows, self.n_steps)
        steps = np.arange(self.n_steps)
        weights = np.where(steps < length[:, None], self.gamma**steps, 0.0).astype(np.float32)
        flat = met * self._storage.shape[1] + self._layout.columns["rewards"].start
        rewards = self._storage.view(-1)[torch.from_numpy(flat).to(self.device)]
        if env is not None:
            rewards = self._normalised(rewards, env.normalize_reward)
        parts["rewards"] = (rewards * torch.from_numpy(weights).to(self.device)).sum(1, keepdim=True)
        discounts = torch.from_numpy((self.gamma**length).astype(np.float32)[:, None])
        return torch.from_numpy(met[:, -1].copy()).to(self.device), discounts.to(self.device)

    def mean_reward_per_task(self) -> NDArray[np.float64]:
        """Return the mean stored reward of each task, shape (n_tasks,); NaN for a task without any."""
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
        result = super().rows(low, high)
        if self._chain is not None:
            result["previous"] = self._chain.previous(np.arange(low, high) % self.buffer_size)
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
        self.reset()
        self.total_added = oldest = total_added - n
        self.restore_more(rows, oldest)

    def restore_more(self, rows: dict[str, NDArray[np.generic]], oldest: int) -> None:
        """Hold further transitions after ``restore``, so that not all have to be in memory twice.

        Args:
            rows: The transitions that follow.
            oldest: Number of the first one that was restored.

        Raises:
            ValueError: they do not fit this buffer.
        """
        if self.n_steps > 1 and "previous" not in rows:
            raise ValueError("the transitions were saved with n_steps=1: resume with that value")
        end = self.total_added + len(rows["rewards"])
        if end - oldest > self.buffer_size:
            raise ValueError(
                f"{end - oldest:,} transitions do not fit a buffer of {self.buffer_size:,} transitions"
            )
        numbers = np.arange(self.total_added, end)
        self._write(self._layout.repack(rows), np.asarray(rows["tasks"], dtype=np.int64), numbers)
        if self._chain is not None:
            self._chain.restore(numbers, np.asarray(rows["previous"]), oldest)

    def get_state(self) -> dict[str, Any]:
        """Return what the transitions do not tell, as plain values that JSON can hold."""
        return {
            "generator": self._generator.bit_generator.state,
            "newest": [] if self._chain is None else self._chain.newest.tolist(),
            "dropped": self.dropped,
            "imported": self.imported,
            "restriction": None if self._restriction is None else self._restriction.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called, after ``restore``."""
        self._generator.bit_generator.state = state["generator"]
        if self._chain is not None:
            self._chain.newest = np.array(state["newest"], dtype=np.int64)
        self.dropped, self.imported = state["dropped"], state.get("imported", 0)
        restriction = state.get("restriction")
        self.restrict(**(restriction or {}))
