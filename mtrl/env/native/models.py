"""A task's shared model, the simulations of the copies that play it, and the states after its resets."""

from functools import cached_property
from typing import NamedTuple

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray

from mtrl.env.camera import Camera
from mtrl.env.metaworld import PICTURE_SIZE, STATE, make_original, metaworld_task
from mtrl.env.native import mujoco_c
from mtrl.env.native.records import COPY, FRAME_SIZE, GOAL, PLACES
from mtrl.env.native.tasks import MODULES

_ATTRIBUTES = {
    "target_pos": "_target_pos",
    "obj_init_pos": "obj_init_pos",
    "init_tcp": "init_tcp",
    "hand_init_pos": "hand_init_pos",
    "window_handle_pos_init": "window_handle_pos_init",
    "peg_head_pos_init": "peg_head_pos_init",
    "obj_to_target_init": "_obj_to_target_init",
}


class Snapshot(NamedTuple):
    """What Meta-World's reset to one goal leaves behind."""

    physics: NDArray[np.float64]
    """MuJoCo's integration state."""
    body_pos: NDArray[np.float64]
    site_pos: NDArray[np.float64]
    record: NDArray[np.void]
    """A copy's record after the reset, without the addresses; the observation is not clipped here."""


_snapshots: dict[tuple[str, bytes], Snapshot] = {}
"""By task and goal, for all environments of this process: training and evaluation mostly play the same goals."""


class Simulation:
    """An MjData of a task, with the few model fields that are its own."""

    def __init__(self, task: str, model: mujoco.MjModel) -> None:
        self.task, self.data = task, mujoco.MjData(model)
        self.own_model = mujoco_c.ModelWithOwnPositions(model)
        self._model = model

    def get_physics(self) -> NDArray[np.float64]:
        """Return the integration state."""
        physics = np.empty(mujoco.mj_stateSize(self._model, STATE))
        mujoco.mj_getState(self._model, self.data, physics, STATE)
        return physics

    def set_physics(
        self, physics: NDArray[np.float64], body_pos: NDArray[np.float64], site_pos: NDArray[np.float64]
    ) -> None:
        """Continue from an integration state and the model fields that belong to it."""
        self.own_model.body_pos[:] = body_pos
        self.own_model.site_pos[:] = site_pos
        mujoco.mj_setState(self._model, self.data, physics, STATE)

    def clear(self) -> None:
        """Forget everything, MuJoCo's warnings included, as after an unstable simulation."""
        mujoco.mj_resetData(self._model, self.data)

    @cached_property
    def addresses(self) -> dict[str, int | list[int] | NDArray[np.void]]:
        """The fields of a copy's record that hold addresses."""
        data = self.data
        named = {
            "hand": data.body("hand").xpos,
            "right_claw": data.body("rightclaw").xpos,
            "left_claw": data.body("leftclaw").xpos,
            "right_pad": data.body("rightpad").xpos,
            "left_pad": data.body("leftpad").xpos,
            "right_finger": data.site("rightEndEffector").xpos,
            "left_finger": data.site("leftEndEffector").xpos,
        } | MODULES[self.task].places(data)
        places = np.zeros((), PLACES)
        for name, array in named.items():
            places[name] = array.ctypes.data
        return {
            "model": self.own_model.address,
            "data": data._address,
            "mocap_pos": data.mocap_pos.ctypes.data,
            "mocap_quat": data.mocap_quat.ctypes.data,
            "ctrl": data.ctrl.ctypes.data,
            "warnings": mujoco_c.warning_addresses(data),
            "places": places,
        }


class TaskModel:
    """One task: Meta-World's environment, which makes the snapshots and owns the model that all copies share.

    Args:
        task: Its name.
        goals: The random vectors of its goals, ``(50, d)``.
    """

    def __init__(self, task: str, goals: NDArray[np.float64]) -> None:
        self._task, self._goals = task, goals
        self._env: SawyerXYZEnv = make_original(task)
        self._camera = Camera(PICTURE_SIZE)
        self._idle: list[Simulation] = []

    def take_simulation(self) -> Simulation:
        """Return a simulation that no copy uses."""
        return self._idle.pop() if self._idle else Simulation(self._task, self._env.model)

    def give_back(self, simulation: Simulation) -> None:
        """Keep a simulation for the next copy that plays this task."""
        self._idle.append(simulation)

    def snapshot(self, goal: int) -> Snapshot:
        """Return the state after a reset to goal number ``goal``, made by Meta-World when first asked for."""
        key = self._task, self._goals[goal].tobytes()
        if key not in _snapshots:
            _snapshots[key] = self._reset_metaworld(goal)
        return _snapshots[key]

    def _reset_metaworld(self, goal: int) -> Snapshot:
        env = self._env
        env.set_task(metaworld_task(self._task, self._goals[goal]))
        observation, _ = env.reset()
        physics = np.empty(mujoco.mj_stateSize(env.model, STATE))
        mujoco.mj_getState(env.model, env.data, physics, STATE)
        record = np.zeros((), COPY)
        record["task"] = tuple(MODULES).index(self._task)
        for name in GOAL.names:
            record["goal"][name] = getattr(env, _ATTRIBUTES[name], np.nan)
        record["mocap_low"], record["mocap_high"] = env.mocap_low, env.mocap_high
        space = env.sawyer_observation_space
        record["observation_low"], record["observation_high"] = space.low, space.high
        record["frame"] = env._prev_obs[:FRAME_SIZE]
        record["observation"] = observation
        return Snapshot(physics, env.model.body_pos.copy(), env.model.site_pos.copy(), record)

    def render(self, simulation: Simulation) -> NDArray[np.uint8]:
        """Return a frame ``(height, width, 3)`` of a simulation, the right way up, without touching it."""
        env = self._env
        env.model.body_pos[:] = simulation.own_model.body_pos
        env.model.site_pos[:] = simulation.own_model.site_pos
        mujoco.mj_setState(env.model, env.data, simulation.get_physics(), STATE)
        mujoco.mj_forward(env.model, env.data)
        return self._camera.picture(env.model, env.data)

    def close(self) -> None:
        """Free the renderer and the idle simulations."""
        self._camera.close()
        self._env.close()
        self._idle.clear()
