"""A task's shared model, the simulations of the copies that play it, and the states after its resets."""

import ctypes
from types import ModuleType
from typing import Any, NamedTuple

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray

from mtrl.env.camera import Camera
from mtrl.env.metaworld import FATAL_WARNINGS, PICTURE_SIZE, STATE, get_physics, make_original, metaworld_task
from mtrl.env.native import mujoco_c
from mtrl.env.native.records import ADDRESSES, FRAME_SIZE, GOAL, REWARDS, SNAPSHOT, Place


class Snapshot(NamedTuple):
    """What Meta-World's reset to one goal leaves behind: MuJoCo's integration state, positions that it has moved.

    ``record`` is of type ``records.SNAPSHOT``; its observation is not clipped.
    """

    physics: NDArray[np.float64]
    body_pos: NDArray[np.float64]
    site_pos: NDArray[np.float64]
    record: NDArray[np.void]


_snapshots: dict[tuple[str, bytes], Snapshot] = {}
"""By task and goal, for all environments of this process: training and evaluation mostly play the same goals."""


_HAND = {
    "hand": "body hand xpos",
    "right_claw": "body rightclaw xpos",
    "left_claw": "body leftclaw xpos",
    "right_pad": "body rightpad xpos",
    "left_pad": "body leftpad xpos",
    "right_finger": "site rightEndEffector xpos",
    "left_finger": "site leftEndEffector xpos",
}
"""Where the parts of the hand are, as a task's ``places`` say where its objects are."""


def _array(data: mujoco.MjData, place: Place) -> NDArray[Any]:
    if callable(place):
        return place(data)
    kind, name, field = place.split()
    return getattr(getattr(data, kind)(name), field)


class Simulation:
    """An MjData of a task, and a model that shares all but ``body_pos`` and ``site_pos`` with the task's.

    A reset of Meta-World changes nothing else (tested), and a model is 20 MB where these are 10 kB.
    """

    def __init__(self, model: mujoco.MjModel, task: ModuleType, reward: str) -> None:
        self.data = data = mujoco.MjData(model)
        self._model, self.body_pos, self.site_pos = model, model.body_pos.copy(), model.site_pos.copy()
        self._header = mujoco_c.model_with(model, body_pos=self.body_pos, site_pos=self.site_pos)
        # Kept, for an address keeps no array.
        self._places = {name: _array(data, place) for name, place in (_HAND | task.places).items()}
        self.addresses = np.zeros((), ADDRESSES)
        """The fields of a copy's record that hold addresses."""
        for name, array in self._places.items():
            self.addresses["places"][name] = array.ctypes.data
        for name, address in (
            ("observe", task.observe.address),
            ("reward_function", getattr(task, REWARDS[reward]).address),
            ("model", ctypes.addressof(self._header)),
            ("data", data._address),
        ):
            self.addresses[name] = address
        for name in ("mocap_pos", "mocap_quat", "ctrl"):
            self.addresses[name] = getattr(data, name).ctypes.data
        counters = data.warning.number
        self.addresses["warnings"] = [counters[int(kind) :].ctypes.data for kind in FATAL_WARNINGS]

    def get_physics(self) -> NDArray[np.float64]:
        """Return the integration state."""
        return get_physics(self._model, self.data)

    def restore(self, snapshot: Snapshot, physics: NDArray[np.float64] | None = None) -> None:
        """Continue from a snapshot, or from a later integration state of an episode that began with it."""
        self.body_pos[:], self.site_pos[:] = snapshot.body_pos, snapshot.site_pos
        mujoco.mj_setState(self._model, self.data, snapshot.physics if physics is None else physics, STATE)

    def clear(self) -> None:
        """Forget everything, MuJoCo's warnings included, as after an unstable simulation."""
        mujoco.mj_resetData(self._model, self.data)


class TaskModel:
    """One task: Meta-World's environment, which makes the snapshots and owns the model that all copies share.

    ``module`` is the task's in ``mtrl.env.native.tasks``, ``goals`` are the random vectors of its goals, ``(50, d)``,
    ``reward`` is the version of the reward, "v1" or "v2".
    """

    def __init__(self, task: str, module: ModuleType, goals: NDArray[np.float64], reward: str) -> None:
        self._task, self._module, self._goals, self._reward = task, module, goals, reward
        self._env: SawyerXYZEnv = make_original(task)
        self._camera = Camera(PICTURE_SIZE)
        self.idle: list[Simulation] = []
        """Simulations kept for the next copy that plays this task."""

    def take_simulation(self) -> Simulation:
        """Return a simulation that no copy uses."""
        return self.idle.pop() if self.idle else Simulation(self._env.model, self._module, self._reward)

    def snapshot(self, goal: int) -> Snapshot:
        """Return the state after a reset to goal number ``goal``, made by Meta-World when first asked for."""
        key = self._task, self._goals[goal].tobytes()
        if key in _snapshots:
            return _snapshots[key]
        env = self._env
        env.set_task(metaworld_task(self._task, self._goals[goal]))
        observation, _ = env.reset()
        record = np.zeros((), SNAPSHOT)
        for name, (attribute, _) in GOAL.items():
            record["goal"][name] = getattr(env, attribute, np.nan)
        record["mocap_low"], record["mocap_high"] = env.mocap_low, env.mocap_high
        space = env.sawyer_observation_space
        record["observation_low"], record["observation_high"] = space.low, space.high
        record["frame"] = env._prev_obs[:FRAME_SIZE]
        record["observation"] = observation
        physics = get_physics(env.model, env.data)
        positions = env.model.body_pos.copy(), env.model.site_pos.copy()
        return _snapshots.setdefault(key, Snapshot(physics, *positions, record))

    def render(self, simulation: Simulation) -> NDArray[np.uint8]:
        """Return a frame ``(height, width, 3)`` of a simulation, the right way up, without touching it."""
        env = self._env
        env.model.body_pos[:], env.model.site_pos[:] = simulation.body_pos, simulation.site_pos
        mujoco.mj_setState(env.model, env.data, simulation.get_physics(), STATE)
        mujoco.mj_forward(env.model, env.data)
        return self._camera.picture(env.model, env.data)

    def close(self) -> None:
        """Free the renderer and the idle simulations."""
        self._camera.close()
        self._env.close()
        self.idle.clear()
