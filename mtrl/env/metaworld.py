"""Meta-World's own classes behind the project's environment contract (see ``mtrl.env``): all tasks, both rewards.

Below them: what both backends share, such as goals, the schedule of a copy, spaces and the check of actions.
"""

# Before anything imports MuJoCo.
import mtrl.env.without_graphics  # noqa: F401

# isort: split

import logging
import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cache, lru_cache
from numbers import Integral
from typing import Any

import gymnasium
import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from metaworld.types import Task
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from mtrl.env.camera import Camera
from mtrl.errors import ActionNotFiniteError
from mtrl.tasks import ACTION_SIZE, GOALS, HORIZON, OBSERVATION_SIZE

logger = logging.getLogger(__name__)

PICTURE_SIZE = 480
"""Width and height of a rendered frame in pixels, as Meta-World's."""

NO_PICTURE = 'nothing can be rendered: make the environments with render_mode="rgb_array"'

_KINDS = mujoco.mjtWarning
FATAL_WARNINGS = _KINDS.mjWARN_BADQPOS, _KINDS.mjWARN_BADQVEL, _KINDS.mjWARN_BADQACC
"""After these MuJoCo resets the simulation by itself, in the middle of an episode."""

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
"""All that the continuation of a simulation depends on, the solver's warm start included."""

Indices = int | Sequence[int] | None
"""Of the copies that are meant; None means all."""

_PLAIN = (bool, int, float, str, type(None), np.ndarray, np.generic)


def make_original(task: str, reward: str = "v2") -> SawyerXYZEnv:
    """Return Meta-World's environment of ``task`` with reward version "v1" or "v2", and a model of its own."""
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


# A model is 20 MB: enough are kept for MT10, while MT50 rather reads its files again for its next environments.
@lru_cache(maxsize=16)
def _read(path: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(path)


@lru_cache(maxsize=256)
def goal_set(task: str, seed: int) -> NDArray[np.float64]:
    """Return the random vectors of the goals of ``task``, shape (50, 3 or more), in Meta-World's order.

    Meta-World draws them from numpy's global generator during resets, which spend all the time moving the hand. The
    draws do not depend on where the hand is, so one step of that move is enough (tested on all tasks; without any
    step, some tasks read rotation matrices that MuJoCo has not yet filled). Observations, which take most of the
    rest, decide nothing here.
    """
    env = make_original(task)
    env._freeze_rand_vec = False
    env._set_task_called = True
    env._reset_hand = lambda steps=1: type(env)._reset_hand(env, 1)
    env._get_obs = lambda: nothing
    nothing, global_state = np.zeros(OBSERVATION_SIZE), np.random.get_state()
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
    """

    def __init__(self, n_tasks: int, task: int, seed: int) -> None:
        self.n_tasks, self.task = n_tasks, task
        self.goal: int | None = None
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Restart the generator that draws the goals."""
        self._generator = np.random.default_rng(seed)

    def set_task(self, task: int, goal: int | None = None) -> None:
        """Play ``task`` (its id) from the next reset on; always its goal number ``goal``, or random ones where None."""
        task, goal = whole("task", task), None if goal is None else whole("goal", goal)
        if not 0 <= task < self.n_tasks:
            raise ValueError(f"task {task} is not in the set of {self.n_tasks} tasks")
        if goal is not None and not 0 <= goal < GOALS:
            raise ValueError(f"goal {goal} does not exist: a task has goals 0 to {GOALS - 1}")
        self.task, self.goal = task, goal

    def next_episode(self) -> tuple[int, int]:
        """Return (task, goal) of the episode that begins now."""
        return self.task, int(self._generator.integers(GOALS)) if self.goal is None else self.goal

    def get_state(self) -> dict[str, Any]:
        """Return the state as plain values that JSON can hold."""
        return {"task": self.task, "goal": self.goal, "generator": self._generator.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called."""
        self.task, self.goal = state["task"], state["goal"]
        self._generator.bit_generator.state = state["generator"]


def whole(name: str, value: Any, low: int | None = None) -> int:
    """Return a whole number, of Python's or numpy's; raise ValueError unless it is one and at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name}={value!r} must be a whole number")
    if low is not None and value < low:
        raise ValueError(f"{name}={value} must be at least {low}")
    return int(value)


def check_actions(actions: Any, shape: tuple[int, ...], name_of: Callable[[int], str]) -> NDArray[Any]:
    """Return the actions of a step as an array of ``shape``, (n_envs, 4); ``name_of`` a copy is for messages.

    Raises:
        ValueError: The shape is another one.
        ActionNotFiniteError: An action holds NaN or infinity.
    """
    actions = np.asarray(actions)
    if actions.shape != shape:
        raise ValueError(f"actions of shape {actions.shape} do not fit {shape[0]} copies: give {shape}")
    # In plain Python: for the few numbers of a step, numpy's call takes longer.
    if not all(map(math.isfinite, actions.ravel().tolist())):
        copy = int(np.argmin(np.isfinite(actions).all(axis=1)))
        raise ActionNotFiniteError(
            f"action {actions[copy]} of {name_of(copy)} is not finite: check the policy's weights"
        )
    return actions


METADATA = {"render_modes": ["rgb_array"], "render_fps": 80}
"""What every backend says of its pictures; there are 80 environment steps in a second of the simulated world."""

_OUT_OF_ORDER = {
    "new": "there is no episode yet: call reset first",
    "ready": "no step is under way: call step_async first",
    "stepping": "a step is under way: call step_wait before {call}",
    "closed": "the environments are closed: make new ones",
}


def no_attribute(name: str) -> AttributeError:
    """Return the error that says of a copy, on every backend, that it has no such attribute or method."""
    methods = ", ".join(("set_task", "get_state", "set_state", "render"))
    return AttributeError(f"an environment has no attribute or method {name!r}: its methods are {methods}")


def get_physics(model: mujoco.MjModel, data: mujoco.MjData) -> NDArray[np.float64]:
    """Return the integration state of a simulation."""
    physics = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, physics, STATE)
    return physics


def observation_space(n_tasks: int, task_id: bool) -> gymnasium.spaces.Box:
    """Return the float32 space of observations; unbounded, for Meta-World declares wrong bounds for the goal."""
    size = OBSERVATION_SIZE + (n_tasks if task_id else 0)
    return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)


def action_space() -> gymnasium.spaces.Box:
    """Return the float32 box [-1, 1]^4."""
    return gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)


def one_hots(n_tasks: int, task_id: bool) -> NDArray[np.float32]:
    """Return what is appended to the observations of each task: its one-hot, or nothing."""
    return np.eye(n_tasks, n_tasks if task_id else 0, dtype=np.float32)


class OrderedVecEnv(VecEnv):
    """What a vector environment of any backend does around the calls of its own: it refuses those out of order.

    A backend has ``_reset``, ``_begin_step``, ``_end_step``, ``_call`` (an ``env_method``), ``_close`` and ``_who``
    (the name of a copy). A refusal changes nothing.
    """

    tasks: Sequence[str]
    """The task set."""
    _standing = "new"
    """There is no episode in some copy ("new"), there is one in all ("ready"), a step is under way, or "closed"."""
    _begun: frozenset[int] = frozenset()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.metadata = METADATA

    def require(self, call: str, *allowed: str) -> None:
        """Raise RuntimeError unless the environments stand as ``call`` allows."""
        if self._standing not in allowed:
            raise RuntimeError(_OUT_OF_ORDER[self._standing].format(call=call))

    def reset(self) -> NDArray[np.float32]:
        """Begin an episode in every copy and return the observations, ``(n_envs, obs_dim)``."""
        self.require("reset", "new", "ready", "stepping")
        observations = self._reset()
        self._standing, self._begun = "ready", frozenset(range(self.num_envs))
        return observations

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Begin a step; raise RuntimeError where none can begin, and else as ``check_actions``."""
        self.require("the next one", "ready")
        shape = (self.num_envs, *(self.action_space.shape or ()))
        self._begin_step(check_actions(actions, shape, self._who))
        self._standing = "stepping"

    def step_wait(self) -> VecEnvStepReturn:
        """Return observations, rewards, dones and infos of the step that ``step_async`` began."""
        self.require("step_wait", "stepping")
        self._standing = "ready"
        return self._end_step()

    def get_images(self) -> Sequence[NDArray[np.uint8]]:
        """Return a frame of each copy."""
        return self.env_method("render")

    def _get_indices(self, indices: Indices) -> list[int]:
        try:
            return [range(self.num_envs)[copy] for copy in super()._get_indices(indices)]
        except IndexError:
            raise IndexError(
                f"indices={indices} name a copy that does not exist: there are {self.num_envs}"
            ) from None

    def warn_of_unstable(self, infos: Sequence[Mapping[str, Any]]) -> None:
        """Say which simulations broke down in a step."""
        for i, info in enumerate(infos):
            if "unstable" in info:
                logger.warning(
                    "the simulation of copy %d (%s) became unstable, so its episode is cut short: if that happens "
                    "often, look at the actions, and at the versions of mujoco and metaworld",
                    *(i, self.tasks[info["task_id"]]),
                )

    def env_method(
        self, method_name: str, *method_args: object, indices: Indices = None, **method_kwargs: object
    ) -> list[Any]:
        """Call ``set_task``, ``get_state``, ``set_state`` or ``render`` of the copies in ``indices``."""
        copies = self._get_indices(indices)
        needs_episode = method_name in ("get_state", "render") and not self._begun.issuperset(copies)
        more = ("stepping",) if method_name == "set_task" else ()
        self.require(method_name, "ready", *(() if needs_episode else ("new",)), *more)
        answers = self._call(method_name, *method_args, indices=copies, **method_kwargs)
        if method_name == "set_state":
            self._begun |= set(copies)
            self._standing = "ready" if len(self._begun) == self.num_envs else "new"
        return answers

    def close(self) -> None:
        """Free everything; does nothing the second time."""
        if self._standing != "closed":
            self._standing = "closed"
            self._close()


class StockEnv(gymnasium.Env):
    """One copy: a Meta-World environment per task it has played so far, and a schedule that says which is next.

    ``goals`` are the random vectors of each task's 50 goals; the other arguments are those of ``make_vec_env``.
    """

    metadata = METADATA

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
        self._one_hots = one_hots(len(tasks), task_id)
        self._schedule = Schedule(len(tasks), task, seed)
        self._envs: dict[int, SawyerXYZEnv] = {}
        self._task, self._goal = task, 0

    def set_task(self, task: int, goal: int | None = None) -> None:
        """Play ``task`` (its id) from the next reset on, with goal number ``goal`` or random ones."""
        self._schedule.set_task(task, goal)

    def _env(self) -> SawyerXYZEnv:
        if self._task not in self._envs:
            self._envs[self._task] = make_original(self.playing, self.reward)
        return self._envs[self._task]

    def __getattr__(self, name: str) -> Any:
        raise no_attribute(name)

    @property
    def playing(self) -> str:
        """Name of the task that is played."""
        return self.tasks[self._task]

    def _begin_episode(self, task: int, goal: int) -> NDArray[np.float64]:
        """Reset Meta-World's environment of ``task`` and return its observation."""
        self._task, self._goal = task, goal
        env = self._env()
        env.set_task(metaworld_task(self.playing, self.goals[task][goal]))
        self._length, self._return, self._solved = 0, 0.0, False
        self._started = time.perf_counter()
        return env.reset()[0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin the episode that the schedule says; ``seed`` restarts the generator that draws the goals."""
        super().reset(seed=seed)
        if seed is not None:
            self._schedule.reseed(seed)
        self._last_obs = self._with_task_id(self._begin_episode(*self._schedule.next_episode()))
        return self._last_obs, {"task_id": self._task, "goal": self._goal}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance by one environment step (five of the simulation).

        An unstable simulation truncates the episode with ``info["unstable"]`` and the last good observation.
        Actions are checked for all copies at once, by the vector environment.
        """
        env = self._env()
        obs, reward, _, _, state = env.step(action)
        info: dict[str, Any] = {"task_id": self._task, "success": False, "is_success": self._solved}
        # MuJoCo resets an unstable simulation by itself, in mid-episode; only its warning counters show it.
        warned = any(env.data.warning[kind].number for kind in FATAL_WARNINGS)
        if warned or not (np.isfinite(obs).all() and np.isfinite(reward)):
            env.data.warning.number[:] = 0
            return self._last_obs, 0.0, False, True, info | {"unstable": True} | self._episode()
        self._last_obs = self._with_task_id(obs)
        reward, success = float(reward), bool(state["success"])
        self._length += 1
        self._return += reward
        self._solved |= success
        terminated = self.terminate_on_success and success
        truncated = self._length >= self.horizon and not terminated
        info |= {"success": success, "is_success": self._solved}
        if terminated or truncated:
            info |= self._episode()
        return self._last_obs, reward, terminated, truncated, info

    def _episode(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._started
        return {"goal": self._goal, "episode": {"r": self._return, "l": self._length, "t": seconds}}

    def _with_task_id(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        return np.concatenate([obs.astype(np.float32), self._one_hots[self._task]])

    def render(self) -> NDArray[np.uint8]:
        """Return a frame ``(height, width, 3)``, the right way up; raise ValueError without a render mode."""
        if self.render_mode is None:
            raise ValueError(NO_PICTURE)
        return self._camera.picture(*self.simulation())

    def simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Return MuJoCo's model and data of the task that is played, to be looked at."""
        env = self._env()
        return env.model, env.data

    def close(self) -> None:
        """Free the simulations."""
        self._camera.close()
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    def get_state(self) -> dict[str, Any]:
        """Return everything that the rest of this episode and all later ones depend on."""
        env = self._env()
        # A view is memory of MuJoCo's, which the physics state covers.
        attributes = {
            name: np.copy(value) if isinstance(value, np.ndarray) else value
            for name, value in vars(env).items()
            if isinstance(value, _PLAIN) and (getattr(value, "base", None) is None or value.flags.owndata)
        }
        return {
            "schedule": self._schedule.get_state(),
            "task": self._task,
            "goal": self._goal,
            "length": self._length,
            "return": self._return,
            "solved": self._solved,
            "observation": self._last_obs.copy(),
            "physics": get_physics(env.model, env.data),
            "body_pos": env.model.body_pos.copy(),
            "site_pos": env.model.site_pos.copy(),
            "attributes": attributes,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called, on this copy or on another one of the same task set."""
        self._schedule.set_state(state["schedule"])
        # A reset first: it gives the attributes that point into the simulation their meaning.
        self._begin_episode(int(state["task"]), int(state["goal"]))
        env = self._env()
        env.model.body_pos[:] = state["body_pos"]
        env.model.site_pos[:] = state["site_pos"]
        mujoco.mj_setState(env.model, env.data, np.asarray(state["physics"]), STATE)
        warm_start = env.data.qacc_warmstart.copy()
        mujoco.mj_forward(env.model, env.data)
        env.data.qacc_warmstart[:] = warm_start
        for name, value in state["attributes"].items():
            setattr(env, name, np.copy(value) if isinstance(value, np.ndarray) else value)
        self._length, self._return = int(state["length"]), float(state["return"])
        self._solved = bool(state["solved"])
        self._last_obs = np.array(state["observation"], dtype=np.float32)


class StockVecEnv(OrderedVecEnv, DummyVecEnv):
    """Copies in this process."""

    envs: list[StockEnv]
    _reset, _begin_step = DummyVecEnv.reset, DummyVecEnv.step_async
    _call, _close = DummyVecEnv.env_method, DummyVecEnv.close

    def _end_step(self) -> VecEnvStepReturn:
        step = DummyVecEnv.step_wait(self)
        self.warn_of_unstable(step[3])
        return step

    def _who(self, copy: int) -> str:
        return f"copy {copy} ({self.envs[copy].playing})"

    @property
    def tasks(self) -> Sequence[str]:
        """The task set."""
        return self.envs[0].tasks
