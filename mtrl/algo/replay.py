"""The replay buffer: a ring of transitions on the learner's device, addressed by task."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from mtrl.algo.networks import Grouping
from mtrl.algo.sampling import Bools, EpisodeChain, Floats, Ints, ReturnStatistics, TaskIndex


class TaskSamples(NamedTuple):
    """A batch: the fields of stable-baselines3's ReplayBufferSamples, the tasks, and how they lie.

    Each has a row per transition: actions in -1 .. 1; rewards, dones and discounts (batch, 1), tasks (batch,) of int64.
    With n-step returns, rewards are discounted sums over n steps, and next observations and dones those of the last.
    """

    observations: torch.Tensor
    actions: torch.Tensor
    next_observations: torch.Tensor
    dones: torch.Tensor  # 1 where the episode terminated; a time limit does not count
    rewards: torch.Tensor
    discounts: torch.Tensor | None  # gamma to the number of steps summed; None with one-step returns
    tasks: torch.Tensor
    sorted_by_task: bool = False  # equally many transitions of every task, in the order of the tasks
    grouping: Grouping | None = (
        None  # where heads per task find their transitions; None before an update needs it
    )


_KEPT_AS = {"rewards": np.float32, "terminated": np.uint8, "truncated": np.uint8, "tasks": np.int32}
"""Types in a checkpoint of the columns that are one number wide."""


class TaskReplayBuffer(ReplayBuffer):
    """Replay buffer whose capacity counts transitions, whatever the number of copies and of tasks.

    Transitions are numbered from 0 in the order of their arrival; number ``k`` lies in row ``k % buffer_size``. A
    row is one run of float32, so that a batch is a single gather.
    The spaces are flat Boxes; ``add`` is given one transition of each of ``n_envs`` copies. With more than one
    task, each ``info`` must name its ``task_id``; with ``one_hot``, observations end with the one-hot of that task.
    ``balanced`` batches hold equally many transitions of each task. With ``n_steps``, the rewards of so many steps of
    one episode are summed, discounted by ``gamma``. ``measure_returns`` keeps statistics of the discounted returns of
    all that is added. ``seed`` is that of the buffer's own generator. ``optimize_memory_usage`` must be False.
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
        measure_returns: bool = False,
    ) -> None:
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage loses the last observation of an episode: leave it False")
        # the constructor of stable-baselines3's replay buffer allocates, so its parent's is called
        BaseBuffer.__init__(self, int(buffer_size), observation_space, action_space, device, n_envs)
        self.optimize_memory_usage, self.handle_timeout_termination = False, True
        self.n_tasks, self.balanced, self.n_steps, self.gamma = n_tasks, balanced, n_steps, gamma
        self.one_hot, self.measure_returns = one_hot, measure_returns

        obs_dim = int(np.prod(self.obs_shape))
        widths = {"observations": obs_dim, "actions": self.action_dim, "next_observations": obs_dim}
        widths |= dict.fromkeys(_KEPT_AS, 1)
        edges = np.cumsum([0, *widths.values()]).tolist()
        self._columns = dict(zip(widths, map(slice, edges, edges[1:]), strict=True))
        # numpy leaves untouched pages to the operating system, torch.zeros writes them all
        self._storage = self._on_device(np.zeros((self.buffer_size, edges[-1]), dtype=np.float32))
        self._generator = np.random.default_rng(seed)
        self.reset()

    def reset(self) -> None:
        """Forget every transition; the generator keeps its state."""
        self.total_added = self.dropped = 0
        self.playing = np.full(self.n_envs, -1)
        """Task of the episode that each copy is in, -1 where that is not known, shape (n_envs,)."""
        self._index = TaskIndex(self.n_tasks) if self.balanced else None
        self._restriction: TaskIndex | None = None
        self._chain = EpisodeChain(self.buffer_size, self.n_envs) if self.n_steps > 1 else None
        measured = self.measure_returns
        self.returns = ReturnStatistics(self.n_tasks, self.n_envs, self.gamma) if measured else None

    def size(self) -> int:
        """Return the number of transitions held."""
        return min(self.total_added, self.buffer_size)

    observations = property(lambda self: self._column("observations"), doc="Shape (buffer_size, obs_dim).")
    actions = property(lambda self: self._column("actions"), doc="Shape (buffer_size, action_dim).")
    rewards = property(lambda self: self._column("rewards")[:, 0], doc="Shape (buffer_size,), as received.")
    tasks = property(lambda self: self._column("tasks")[:, 0], doc="Task ids as floats, (buffer_size,).")

    def _column(self, name: str) -> torch.Tensor:
        return self._storage[:, self._columns[name]]

    def _on_device(self, values: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device)

    def _pack(self, parts: Mapping[str, NDArray[np.generic]]) -> Floats:
        """Return rows from one array per column."""
        columns = [np.reshape(parts[name], (len(parts["tasks"]), -1)) for name in self._columns]
        rows = np.concatenate(columns, axis=1, dtype=np.float32)
        if rows.shape[1] != self._storage.shape[1]:
            raise ValueError("these transitions have other shapes than the buffer's observations and actions")
        return rows

    def add(
        self, obs: Floats, next_obs: Floats, action: Floats, reward: Floats, done: Bools, infos: list[dict]
    ) -> None:
        """Store one transition of each copy, in the order of the copies.

        A transition whose info says ``unstable`` (the simulation broke down) is dropped and counted. An episode
        that a time limit ended did not terminate. An info whose ``task_id`` is missing or wrong is a ValueError.
        """
        n = len(infos)
        timeout = np.fromiter((info.get("TimeLimit.truncated", False) for info in infos), bool, n)
        keep = np.fromiter((not info.get("unstable", False) for info in infos), bool, n)
        tasks, done = self._tasks_of(infos, obs), np.asarray(done, dtype=bool)
        parts = {"observations": obs, "actions": action, "next_observations": next_obs, "rewards": reward}
        parts |= {"terminated": done & ~timeout, "truncated": done & timeout, "tasks": tasks}
        rows = self._pack(parts)

        self.playing = np.where(done, -1, tasks)
        if self.returns is not None:
            self.returns.add(np.where(keep, reward, 0.0), tasks, done)
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
        if self.returns is not None:
            self.returns.current.fill(0.0)
        if self._chain is not None:
            self._chain.newest.fill(-1)

    def _write(self, rows: Floats, tasks: Ints, numbers: Ints) -> None:
        """Write rows (n, width) over the oldest."""
        pos, n = self.total_added % self.buffer_size, len(rows)
        first = min(n, self.buffer_size - pos)
        self._storage[pos : pos + first] = torch.from_numpy(rows[:first])
        if first < n:
            self._storage[: n - first] = torch.from_numpy(rows[first:])
        self.total_added += n
        for index in (self._index, self._restriction):
            if index is not None:
                index.append(tasks, numbers, oldest=self.total_added - self.buffer_size)

    def restrict(self, since: int = 0, tasks: Sequence[int] | None = None) -> None:
        """Draw only transitions from number ``since`` on, of these ids of ``tasks`` (None: all), until the next call.

        Nothing is deleted, so a later call may let in again what this one leaves out. While there are fewer
        than a batch of them, ``sample`` draws from all: a few transitions are not learned by heart.
        """
        self._restriction = None if since == 0 and tasks is None else TaskIndex(self.n_tasks, since, tasks)
        if self._restriction is not None:
            held = np.arange(max(since, self.total_added - self.size()), self.total_added)
            of_tasks = self.tasks[self._on_device(held % self.buffer_size)].cpu().numpy().astype(np.int64)
            self._restriction.append(of_tasks, held, oldest=0)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> TaskSamples:
        """Draw a batch with replacement, normalised by ``env`` where one is given.

        Balanced batches hold ``batch_size / n_tasks`` transitions of each task, sorted by task. While a task
        has no transition at all, the others share the batch as equally as it divides.
        """
        if self.total_added == 0:
            raise ValueError("the replay buffer is empty: collect transitions before the first update")
        index, balanced = self._index, False
        if self._restriction is not None and self._restriction.counts().sum() >= batch_size:
            index = self._restriction
        if index is None:
            rows = self._generator.integers(0, self.size(), batch_size)
        elif self.balanced:
            numbers, balanced = index.sample(batch_size, self._generator)
            rows = numbers % self.buffer_size
        else:
            rows = index.sample_uniformly(batch_size, self._generator) % self.buffer_size
        return self._get_samples(rows, env)._replace(sorted_by_task=balanced)

    def spread(self, batch_size: int, env: VecNormalize | None = None) -> TaskSamples:
        """Return transitions spread evenly over all that are held; unlike ``sample``, nothing is drawn."""
        return self._get_samples(np.linspace(0, self.size() - 1, batch_size).astype(np.int64), env)

    def _get_samples(self, batch_inds: Ints, env: VecNormalize | None = None) -> TaskSamples:
        """Gather the rows ``batch_inds``, shape (batch,), each with the rewards of its n steps.

        As in stable-baselines3's NStepReplayBuffer, a sum stops at the end of the episode or at the newest transition.
        """
        batch = self._storage.index_select(0, self._on_device(batch_inds))
        parts, discounts = {name: batch[:, column] for name, column in self._columns.items()}, None
        if self._chain is not None:
            met, length = self._chain.ahead(batch_inds, self.n_steps)
            flat = met * self._storage.shape[1] + self._columns["rewards"].start
            parts["rewards"] = self._storage.view(-1)[self._on_device(flat)]
            last = self._on_device(met[:, -1].copy())
            for name in ("next_observations", "terminated"):
                parts[name] = self._storage[last, self._columns[name]]
        if env is not None:
            normalised = dict.fromkeys(("observations", "next_observations"), env.normalize_obs)
            for name, function in (normalised | {"rewards": env.normalize_reward}).items():
                values = function(parts[name].cpu().numpy())
                parts[name] = torch.as_tensor(values, dtype=torch.float32, device=self.device)
        if self._chain is not None:
            steps = np.arange(self.n_steps)
            weights = np.where(steps < length[:, None], self.gamma**steps, 0.0).astype(np.float32)
            parts["rewards"] = (parts["rewards"] * self._on_device(weights)).sum(1, keepdim=True)
            discounts = self._on_device((self.gamma**length).astype(np.float32)[:, None])
        order = ("observations", "actions", "next_observations", "terminated", "rewards")
        return TaskSamples(*(parts[name] for name in order), discounts, parts["tasks"][:, 0].long())

    def mean_reward_per_task(self) -> Floats:
        """Return the mean stored reward of each task, shape (n_tasks,); NaN for a task without any."""
        tasks = self.tasks[: self.size()].long()
        counts = torch.bincount(tasks, minlength=self.n_tasks)
        sums = torch.bincount(tasks, weights=self.rewards[: self.size()].double(), minlength=self.n_tasks)
        return (sums / torch.where(counts > 0, counts, torch.nan)).cpu().numpy()

    def rows(self, low: int, high: int) -> dict[str, NDArray[np.generic]]:
        """Return transitions number ``low`` up to but without ``high``, in order, as arrays for a checkpoint."""
        oldest, end = self.total_added - self.size(), self.total_added
        if not oldest <= low <= high <= end:
            raise ValueError(f"transitions {low:,} to {high:,}: the buffer holds {oldest:,} to {end:,}")
        rows = np.arange(low, high) % self.buffer_size
        values = self._storage[self._on_device(rows)].cpu().numpy()
        parts = {name: values[:, column] for name, column in self._columns.items()}
        parts |= {name: parts[name][:, 0].astype(dtype) for name, dtype in _KEPT_AS.items()}
        if self._chain is not None:
            parts["previous"] = self._chain.previous[rows]
        return parts

    def restore(self, oldest: int, parts: Iterable[Mapping[str, NDArray[np.generic]]]) -> None:
        """Hold the transitions from number ``oldest`` on, and no others; those that do not fit are a ValueError.

        The ``parts`` are as ``rows`` returned them, in order; one is in memory at a time.
        """
        self.reset()
        self.total_added = oldest
        for rows in parts:
            if self._chain is not None and "previous" not in rows:
                raise ValueError("the transitions were saved with n_steps=1: resume with that value")
            numbers = np.arange(self.total_added, self.total_added + len(rows["tasks"]))
            if self.total_added + len(numbers) - oldest > self.buffer_size:
                raise ValueError(f"the transitions do not fit a buffer of {self.buffer_size:,}")
            self._write(self._pack(rows), np.asarray(rows["tasks"], dtype=np.int64), numbers)
            if self._chain is not None:
                self._chain.restore(numbers, np.asarray(rows["previous"]), oldest)

    def get_state(self) -> dict[str, Any]:
        """Return what the transitions do not show, as plain values that JSON can hold."""
        restriction = self._restriction
        return {
            "generator": self._generator.bit_generator.state,
            "newest": [] if self._chain is None else self._chain.newest.tolist(),
            "dropped": self.dropped,
            "returns": None if self.returns is None else self.returns.get_state(),
            "restriction": restriction and {"since": restriction.since, "tasks": restriction.tasks},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called, after ``restore``."""
        self._generator.bit_generator.state = state["generator"]
        if self._chain is not None:
            self._chain.newest = np.array(state["newest"], dtype=np.int64)
        self.dropped = state["dropped"]
        if self.returns is not None:
            self.returns.set_state(state["returns"])
        self.restrict(**(state.get("restriction") or {}))

    def _tasks_of(self, infos: list[dict[str, Any]], obs: Floats) -> Ints:
        """Return the task of each copy's transition, shape (n_envs,); 0 where there is a single one."""
        n_tasks = self.n_tasks
        if n_tasks == 1:
            tasks = np.zeros(len(infos), dtype=np.int64)
        elif missing := [copy for copy, info in enumerate(infos) if "task_id" not in info]:
            lacks = f"the info of copy {missing[0]} lacks task_id"
            raise ValueError(f"{lacks}, which a buffer of {n_tasks} tasks needs")
        else:
            tasks = np.fromiter((info["task_id"] for info in infos), np.int64, len(infos))
        unknown = np.flatnonzero((tasks < 0) | (tasks >= n_tasks))
        if len(unknown):
            raise ValueError(
                f"copy {unknown[0]} plays the task {tasks[unknown[0]]}, which is none of the {n_tasks} tasks of "
                "this buffer: n_tasks must be the number of tasks of the environments"
            )
        if self.one_hot:
            ends = np.reshape(obs, (len(tasks), -1))[:, -n_tasks:]
            differing = np.flatnonzero((ends != np.eye(n_tasks, dtype=ends.dtype)[tasks]).any(axis=1))
            if len(differing):
                copy = differing[0]
                raise ValueError(
                    f"the observation of copy {copy} ends with {ends[copy].tolist()}, which is not the one-hot of "
                    f"its task {tasks[copy]} among {n_tasks}: heads per task need it"
                )
        return tasks
