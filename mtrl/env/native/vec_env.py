"""Meta-World as a stable-baselines3 ``VecEnv`` whose step is compiled (contract: ``mtrl.env``)."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from mtrl.env import metaworld
from mtrl.env.native import load, mujoco_c
from mtrl.env.native.models import Simulation, Snapshot, TaskModel
from mtrl.env.native.records import ADDRESSES, COPY, EPISODE, FLAGS, SNAPSHOT
from mtrl.tasks import ACTION_SIZE, HORIZON, OBSERVATION_SIZE

_ADDRESSES, _SNAPSHOT, _EPISODE = ([name for name, *_ in fields] for fields in (ADDRESSES, SNAPSHOT, EPISODE))
_SINGLE = np.dtype(np.float32)
_METHODS = ("set_task", "get_state", "set_state", "render")


class NativeVecEnv(metaworld.OrderedVecEnv):
    """Copies of native tasks, all stepped by one call into compiled code.

    ``step_async`` starts the step in background threads and ``step_wait`` collects it: what runs in between
    runs at the same time. ``step`` does both and uses the calling thread too.

    ``assignment`` says for each copy the id of the task that it plays first, ``goals`` for each task the random
    vectors of its 50 goals, ``(50, d)``; the other arguments are those of ``make_vec_env``.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        assignment: Sequence[int],
        goals: Sequence[NDArray[np.float64]],
        *,
        seed: int,
        horizon: int = HORIZON,
        reward: str = "v2",
        terminate_on_success: bool = False,
        task_id: bool = True,
        threads: int = 1,
        render_mode: str | None = None,
    ) -> None:
        self.tasks, self.render_mode = tuple(tasks), render_mode
        self.horizon, self.terminate_on_success = int(horizon), bool(terminate_on_success)
        n_envs = len(assignment)
        self._step, modules = load(tasks, reward)
        self._models = [TaskModel(*one, reward) for one in zip(tasks, modules, goals, strict=True)]
        self._schedules = [
            metaworld.Schedule(len(tasks), int(task), seed + i) for i, task in enumerate(assignment)
        ]
        self._simulations: list[Simulation | None] = [None] * n_envs
        self._copies = np.zeros(n_envs, COPY)
        # The step's own copy of the actions: the caller may change its array while the step runs.
        self._actions = self._copies["action"]
        self._one_hots = metaworld.one_hots(len(tasks), task_id)
        self._observations = np.zeros((n_envs, OBSERVATION_SIZE + self._one_hots.shape[1]), dtype=np.float32)
        self._rewards = np.zeros(n_envs, dtype=np.float32)
        self._dones = np.zeros(n_envs, dtype=bool)
        self._flags = np.zeros((n_envs, len(FLAGS)), dtype=bool)
        self._tasks, self._goals = [int(task) for task in assignment], [0] * n_envs
        self._started = [0.0] * n_envs
        # MuJoCo empties the processor's caches between two steps, so that each line of Python in a step costs
        # several times what it does in a loop of its own: what stays the same is put together here, once.
        self._next_copy = np.zeros(1, dtype=np.int64)
        written = self._observations, self._rewards, self._dones, self._flags
        addresses = *mujoco_c.function_addresses(), self._next_copy.ctypes.data
        self._arguments = self._copies, *written, *addresses
        self._threads, self._process = max(1, min(threads, n_envs)), 0
        self._pool: ThreadPoolExecutor | None = None
        self._running: list[Future[None]] = []
        super().__init__(n_envs, metaworld.observation_space(len(tasks), task_id), metaworld.action_space())

    def _reset(self) -> NDArray[np.float32]:
        self._wait()
        for i, seed in enumerate(self._seeds):
            if seed is not None:
                self._schedules[i].reseed(seed)
            self._begin_episode(i)
        self._reset_seeds()
        self._reset_options()
        return self._observations.copy()

    def step(self, actions: NDArray[np.float32]) -> VecEnvStepReturn:
        """Advance every copy by one environment step, as ``step_async`` and ``step_wait`` do."""
        self.require("the next one", "ready")
        actions = metaworld.check_actions(actions, (self.num_envs, ACTION_SIZE), self._who)
        self._step(*self._start(actions, self._threads - 1))
        return self._end_step()

    def _begin_step(self, actions: NDArray[Any]) -> None:
        self._start(actions, self._threads)

    def _start(self, actions: NDArray[Any], threads: int) -> tuple[Any, ...]:
        """Let ``threads`` share the copies of the step, and return the compiled step's arguments.

        Which thread steps which copy changes no result.
        """
        self._actions[...] = actions
        self._next_copy[0] = 0
        arguments = actions.dtype == _SINGLE, self.horizon, self.terminate_on_success, *self._arguments
        if threads:
            if self._pool is None or self._process != os.getpid():
                # Threads do not survive a fork: a child that continues with its parent's environment gets its own.
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="mtrl-native")
                self._process = os.getpid()
            self._running = [self._pool.submit(self._step, *arguments) for _ in range(threads)]
        return arguments

    def _wait(self) -> None:
        """Return when all copies have been stepped."""
        running, self._running = self._running, []
        for future in running:
            future.result()

    def _end_step(self) -> VecEnvStepReturn:
        self._wait()
        rewards, dones = self._rewards.copy(), self._dones.copy()
        flags = self._flags.tolist()
        infos: list[dict[str, Any]] = [
            {"task_id": task, "success": now, "is_success": ever, "TimeLimit.truncated": cut}
            for task, (now, ever, cut, _) in zip(self._tasks, flags, strict=True)
        ]
        for i, (_, _, _, done) in enumerate(flags):
            if done:
                self._end_episode(i, infos[i])
                self._begin_episode(i)
        self.warn_of_unstable(infos)
        return self._observations.copy(), rewards, dones, infos

    def _end_episode(self, i: int, info: dict[str, Any]) -> None:
        copy, seconds = self._copies[i], time.perf_counter() - self._started[i]
        info["goal"] = self._goals[i]
        info["episode"] = {"r": float(copy["episode_return"]), "l": int(copy["length"]), "t": seconds}
        info["terminal_observation"] = self._observations[i].copy()
        if copy["unstable"]:
            info["unstable"] = True
            self._simulations[i].clear()

    def _begin_episode(self, i: int) -> None:
        task, goal = self._schedules[i].next_episode()
        snapshot = self._place(i, task, goal)
        self._simulations[i].restore(snapshot)
        self._observations[i, :OBSERVATION_SIZE] = snapshot.record["observation"]
        self._started[i] = time.perf_counter()
        self.reset_infos[i] = {"task_id": task, "goal": goal}

    def _place(self, i: int, task: int, goal: int) -> Snapshot:
        """Give copy ``i`` a simulation of ``task`` and what depends on ``goal``, but not yet the returned physics."""
        simulation = self._simulations[i]
        if simulation is None or self._tasks[i] != task:
            if simulation is not None:
                self._models[self._tasks[i]].idle.append(simulation)
            simulation = self._simulations[i] = self._models[task].take_simulation()
            for name in _ADDRESSES:
                self._copies[i][name] = simulation.addresses[name]
        copy, snapshot = self._copies[i], self._models[task].snapshot(goal)
        for name in _SNAPSHOT:
            copy[name] = snapshot.record[name]
        for name in _EPISODE:
            copy[name] = 0
        self._tasks[i], self._goals[i] = task, goal
        self._observations[i, OBSERVATION_SIZE:] = self._one_hots[task]
        return snapshot

    def _who(self, i: int) -> str:
        return f"copy {i} ({self.tasks[self._tasks[i]]})"

    def _get_state(self, i: int) -> dict[str, Any]:
        copy = self._copies[i]
        return {
            "schedule": self._schedules[i].get_state(),
            "task": self._tasks[i],
            "goal": self._goals[i],
            "length": int(copy["length"]),
            "return": float(copy["episode_return"]),
            "solved": bool(copy["solved"]),
            "first_distance": float(copy["first_distance"]),
            "physics": self._simulations[i].get_physics(),
            "frame": copy["frame"].copy(),
            "observation": self._observations[i].copy(),
        }

    def _set_state(self, i: int, state: dict[str, Any]) -> None:
        task, goal = int(state["task"]), int(state["goal"])
        self._schedules[i].set_state(state["schedule"])
        snapshot = self._place(i, task, goal)
        self._simulations[i].restore(snapshot, np.asarray(state["physics"], dtype=np.float64))
        copy = self._copies[i]
        copy["frame"], copy["solved"] = state["frame"], state["solved"]
        copy["length"], copy["episode_return"] = state["length"], state["return"]
        # Absent in the states of version 0.1.0, whose native tasks did not need it.
        copy["first_distance"] = state.get("first_distance", 0.0)
        self._observations[i] = state["observation"]
        self._started[i] = time.perf_counter()

    def _render(self, i: int) -> NDArray[np.uint8]:
        if self.render_mode is None:
            raise ValueError(metaworld.NO_PICTURE)
        return self._models[self._tasks[i]].render(self._simulations[i])

    def _call(self, name: str, *arguments: Any, indices: Sequence[int], **named: Any) -> list[Any]:
        if name not in _METHODS:
            raise metaworld.no_attribute(name)
        if name == "set_task":
            return [self._schedules[i].set_task(*arguments, **named) for i in indices]
        method = getattr(self, f"_{name}")
        return [method(i, *arguments, **named) for i in indices]

    def get_attr(self, attr_name: str, indices: metaworld.Indices = None) -> list[Any]:
        """Return an attribute of this object, or a method of a copy's, once for each copy in ``indices``."""
        if attr_name in _METHODS:
            return [partial(self.env_method, attr_name, indices=[i]) for i in self._get_indices(indices)]
        if not hasattr(self, attr_name):
            raise metaworld.no_attribute(attr_name)
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: object, indices: metaworld.Indices = None) -> None:
        """Raise AttributeError: copies have no attributes of their own."""
        raise AttributeError(f"native copies have no attribute {attr_name!r} of their own to set")

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper], indices: metaworld.Indices = None
    ) -> list[bool]:
        """Return False for each copy in ``indices``: there are no wrappers."""
        return [False for _ in self._get_indices(indices)]

    def _close(self) -> None:
        self._wait()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self._simulations = [None] * self.num_envs
        for model in self._models:
            model.close()
