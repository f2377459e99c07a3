"""Meta-World's own classes behind the project's environment contract (see ``mtrl.env``): all tasks, both rewards."""

import pickle
import time
from collections.abc import Sequence
from copy import copy
from functools import cache, lru_cache
from typing import Any

import gymnasium
import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from metaworld.types import Task
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from mtrl.env.arguments import check_actions, task_of, whole
from mtrl.env.camera import Camera
from mtrl.tasks import ACTION_SIZE, GOALS, HORIZON, OBSERVATION_SIZE


def make_original(task: str, reward: str = "v2") -> SawyerXYZEnv:
    """Return Meta-World's environment of ``task``, with a model of its own.

    Args:
        task: Its name.
        reward: Meta-World's reward version, "v1" or "v2".
    """
    return _class_of(task)(reward_function_version=reward)


def metaworld_task(name: str, goal: NDArray[np.float64]) -> Task:
    """Return Meta-World's description of one goal, fully observable as in its MT benchmarks."""
    data = {"env_cls": ALL_V3_ENVIRONMENTS[name], "rand_vec": np.array(goal), "partially_observable": False}
    return Task(env_name=name, data=pickle.dumps(data))


class _CopiesItsModel(SawyerXYZEnv):
    """Copies the model where gymnasium's environment reads it: parsing the XML and its meshes takes the time."""

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = copy(_read(self.fullpath))
        picture = model.vis.global_
        picture.offwidth = max(picture.offwidth, self.width)
        picture.offheight = max(picture.offheight, self.height)
        return model, mujoco.MjData(model)


@cache
def _class_of(task: str) -> type[SawyerXYZEnv]:
    original = ALL_V3_ENVIRONMENTS[task]
    return type(original.__name__, (_CopiesItsModel, original), {"__module__": original.__module__})


@cache
def _read(path: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(path)


@lru_cache(maxsize=256)
def goal_set(task: str, seed: int) -> NDArray[np.float64]:
    """Return the random vectors of the goals of ``task``, shape (50, 3 or more), in Meta-World's order.

    Meta-World draws them from numpy's global generator while it resets an environment 100 times, and spends all
    the time moving the hand. The draws do not depend on where the hand is, so one step of that move is enough
    (tested on all tasks; without any step, some tasks read rotation matrices that MuJoCo has not yet filled).
    """
    env = make_original(task)
    env._freeze_rand_vec = False
    env._set_task_called = True
    env._reset_hand = lambda steps=1: type(env)._reset_hand(env, 1)
    global_state = np.random.get_state()
    np.random.seed(seed)
    try:
        goals = []
        for _ in range(GOALS):
            env.reset()
            goals.append(env._last_rand_vec)
    finally:
        np.random.set_state(global_state)
        env.close()
    array = np.array(goals, dtype=np.float64)
    array.setflags(write=False)
    return array


class Schedule:
    """The task and goal of a copy's coming episodes.

    Meta-World ignores ``reset(seed=...)`` and draws goals from a generator it shares with everything else; here
    each copy owns its generator, so that what it plays depends on its seed alone and not on its neighbours.

    Args:
        task: Index in the task set of the task to play first.
        seed: Seed of this copy's generator.
    """

    def __init__(self, task: int, seed: int) -> None:
        self.task = task
        self.goal: int | None = None
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Restart the generator that draws the goals."""
        self._generator = np.random.default_rng(seed)

    def set_task(self, task: int, goal: int | None = None) -> None:
        """Play ``task`` from the next reset on; always its goal number ``goal``, or a random one where None."""
        task, goal = whole("task", task), None if goal is None else whole("goal", goal)
        if goal is not None and not 0 <= goal < GOALS:
            raise ValueError(f"goal {goal} does not exist: a task has goals 0 to {GOALS - 1}")
        self.task, self.goal = task, goal

    def next_episode(self) -> tuple[int, int]:
        """Return (task, goal) of the episode that begins now."""
        goal = int(self._generator.integers(GOALS)) if self.goal is None else self.goal
        return self.task, goal

    def get_state(self) -> dict[str, Any]:
        """Return the state as plain values that JSON can hold."""
        return {"task": self.task, "goal": self.goal, "generator": self._generator.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called."""
        self.task, self.goal = state["task"], state["goal"]
        self._generator.bit_generator.state = state["generator"]


PICTURE_SIZE = 480
"""Width and height of a rendered frame in pixels, as Meta-World's."""

FATAL_WARNINGS = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)
"""After these MuJoCo resets the simulation by itself, in the middle of an episode."""

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
"""All that the continuation of a simulation depends on, the solver's warm start included."""

_PLAIN = (bool, int, float, str, type(None), np.ndarray, np.generic)


def observation_space(n_tasks: int, task_id: bool) -> gymnasium.spaces.Box:
    """Return the float32 space of observations; unbounded, for Meta-World declares wrong bounds for the goal."""
    size = OBSERVATION_SIZE + (n_tasks if task_id else 0)
    return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)


def action_space() -> gymnasium.spaces.Box:
    """Return the float32 box [-1, 1]^4."""
    return gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)


class StockEnv(gymnasium.Env):
    """One copy: a Meta-World environment per task it has played so far, and a schedule that says which is next.

    Args:
        tasks: The task set; a task's index in it is its id.
        goals: For each task the random vectors of its 50 goals, ``(50, d)``.
        task: Id of the task to play first.
        seed: Seed of the generator that draws the goals.
        horizon: Length of an episode in environment steps, at most 500.
        reward: Meta-World's reward version, "v1" or "v2".
        terminate_on_success: End an episode, as a termination, when the task is solved.
        task_id: Append the one-hot of the task to the observation.
        render_mode: None or "rgb_array".
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012  (gymnasium's own convention)

    def __init__(
        self,
        tasks: Sequence[str],
        goals: Sequence[NDArray[np.float64]],
        *,
        task: int,
        seed: int,
        horizon: int = HORIZON,
        reward: str = "v2",
        terminate_on_success: bool = False,
        task_id: bool = True,
        render_mode: str | None = None,
    ) -> None:
        self.tasks, self.goals = tuple(tasks), goals
        self.horizon, self.reward, self.terminate_on_success = horizon, reward, terminate_on_success
        self.render_mode, self._camera = render_mode, Camera(PICTURE_SIZE)
        self.observation_space = observation_space(len(tasks), task_id)
        self.action_space = action_space()
        self._one_hots = (
            np.eye(len(tasks), dtype=np.float32) if task_id else np.zeros((len(tasks), 0), np.float32)
        )
        self._schedule = Schedule(task, seed)
        self._envs: dict[int, SawyerXYZEnv] = {}
        self._task, self._goal = task, 0
        self._begin_episode()

    def _begin_episode(self) -> None:
        self._length, self._return, self._solved = 0, 0.0, False
        self._started = time.perf_counter()

    def _env(self, task: int) -> SawyerXYZEnv:
        if task not in self._envs:
            self._envs[task] = make_original(self.tasks[task], self.reward)
        return self._envs[task]

    @property
    def playing(self) -> str:
        """Name of the task that is played."""
        return self.tasks[self._task]

    def set_task(self, task: int, goal: int | None = None) -> None:
        """Play ``task`` (its id) from the next reset on, with goal number ``goal`` or random ones."""
        self._schedule.set_task(task_of(task, len(self.tasks)), goal)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin the episode that the schedule says; ``seed`` restarts the generator that draws the goals."""
        if seed is not None:
            self._schedule.reseed(seed)
        self._task, self._goal = self._schedule.next_episode()
        env = self._env(self._task)
        env.set_task(metaworld_task(self.tasks[self._task], self.goals[self._task][self._goal]))
        obs, _ = env.reset()
        self._begin_episode()
        self._last_obs = self._with_task_id(obs)
        return self._last_obs, {"task_id": self._task, "goal": self._goal}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance by one environment step (five of the simulation).

        An unstable simulation truncates the episode with ``info["unstable"]`` and the last good observation.
        Actions are checked for all copies at once, by the vector environment.
        """
        env = self._env(self._task)
        obs, reward, _, _, state = env.step(action)
        if self._simulation_failed(env, obs, reward):
            return self._truncate_unstable()
        self._last_obs = self._with_task_id(obs)
        reward, success = float(reward), bool(state["success"])
        self._length += 1
        self._return += reward
        self._solved |= success
        terminated = self.terminate_on_success and success
        truncated = self._length >= self.horizon and not terminated
        info: dict[str, Any] = {"task_id": self._task, "success": success, "is_success": self._solved}
        if terminated or truncated:
            info |= self._episode()
        return self._last_obs, reward, terminated, truncated, info

    def _episode(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._started
        return {"goal": self._goal, "episode": {"r": self._return, "l": self._length, "t": seconds}}

    def _with_task_id(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        return np.concatenate([obs.astype(np.float32), self._one_hots[self._task]])

    def _simulation_failed(self, env: SawyerXYZEnv, obs: NDArray[np.float64], reward: float) -> bool:
        # MuJoCo resets an unstable simulation by itself, in mid-episode; only its warning counters tell.
        warned = any(env.data.warning[kind].number for kind in FATAL_WARNINGS)
        return warned or not (np.isfinite(obs).all() and np.isfinite(reward))

    def _truncate_unstable(self) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self._env(self._task).data.warning.number[:] = 0
        info = {"task_id": self._task, "success": False, "is_success": self._solved, "unstable": True}
        return self._last_obs, 0.0, False, True, info | self._episode()

    def render(self) -> NDArray[np.uint8]:
        """Return a frame ``(height, width, 3)``, the right way up.

        Raises:
            ValueError: The environment was made without a render mode.
        """
        if self.render_mode is None:
            raise ValueError('nothing can be rendered: make the environments with render_mode="rgb_array"')
        return self._camera.picture(*self.simulation())

    def simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Return MuJoCo's model and data of the task that is played, to be looked at."""
        env = self._env(self._task)
        return env.model, env.data

    def close(self) -> None:
        """Free the simulations."""
        self._camera.close()
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    def get_state(self) -> dict[str, Any]:
        """Return everything that the rest of this episode and all later ones depend on."""
        env = self._env(self._task)
        physics = np.empty(mujoco.mj_stateSize(env.model, STATE))
        mujoco.mj_getState(env.model, env.data, physics, STATE)
        attributes = {
            name: np.copy(value) if isinstance(value, np.ndarray) else value
            for name, value in vars(env).items()
            if isinstance(value, _PLAIN) and not _is_view_of_simulation(value)
        }
        return {
            "schedule": self._schedule.get_state(),
            "task": self._task,
            "goal": self._goal,
            "length": self._length,
            "return": self._return,
            "solved": self._solved,
            "observation": self._last_obs.copy(),
            "physics": physics,
            "body_pos": env.model.body_pos.copy(),
            "site_pos": env.model.site_pos.copy(),
            "attributes": attributes,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called, on this copy or on another one of the same task set."""
        self._schedule.set_state(state["schedule"])
        self._task, self._goal = int(state["task"]), int(state["goal"])
        env = self._env(self._task)
        # A reset first: it gives the attributes that point into the simulation their meaning.
        env.set_task(metaworld_task(self.tasks[self._task], self.goals[self._task][self._goal]))
        env.reset()
        env.model.body_pos[:] = state["body_pos"]
        env.model.site_pos[:] = state["site_pos"]
        mujoco.mj_setState(env.model, env.data, np.asarray(state["physics"]), STATE)
        warm_start = env.data.qacc_warmstart.copy()
        mujoco.mj_forward(env.model, env.data)
        env.data.qacc_warmstart[:] = warm_start
        for name, value in state["attributes"].items():
            setattr(env, name, np.copy(value) if isinstance(value, np.ndarray) else value)
        self._begin_episode()
        self._length, self._return = int(state["length"]), float(state["return"])
        self._solved = bool(state["solved"])
        self._last_obs = np.array(state["observation"], dtype=np.float32)


class StockVecEnv(DummyVecEnv):
    """Copies in this process, whose actions are all checked before any of them is simulated."""

    envs: list[StockEnv]

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Take the actions of the next step, ``(n_envs, 4)``.

        Raises:
            ValueError: The shape is another one; nothing was simulated.
            NotFiniteError: An action holds NaN or infinity; nothing was simulated.
        """
        shape = (self.num_envs, ACTION_SIZE)
        super().step_async(check_actions(actions, shape, lambda i: f"copy {i} ({self.envs[i].playing})"))


def _is_view_of_simulation(value: object) -> bool:
    """Tell whether an array is memory of MuJoCo's, which the physics state covers."""
    return isinstance(value, np.ndarray) and value.base is not None and not value.flags.owndata
