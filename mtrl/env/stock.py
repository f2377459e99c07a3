"""Meta-World's own classes behind the project's environment contract (see ``mtrl.env``): all tasks, both rewards."""

import time
from collections.abc import Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from mtrl.env.arguments import check_actions, task_of
from mtrl.env.original import make_original, metaworld_task
from mtrl.env.schedule import Schedule
from mtrl.graphics import Camera
from mtrl.tasks import ACTION_SIZE, HORIZON, OBSERVATION_SIZE

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
