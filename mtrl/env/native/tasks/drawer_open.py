"""drawer-open-v3: pull a drawer open."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from mtrl.env.native.maths import (
    Quaternion,
    Vector,
    compiled,
    distance,
    length,
    minus,
    plus,
    stored_quaternion,
    times,
    tolerance,
    triple,
    vector,
)

MAX_DISTANCE = 0.2
SUCCESS_DISTANCE = 0.03

# Errors in x and y weigh more, so that the gripper can first come down onto the handle.
_SCALE = (3.0, 3.0, 1.0)


def places(data: mujoco.MjData) -> dict[str, NDArray[np.float64]]:
    """Return the drawer."""
    drawer = data.body("drawer_link")
    return {"object": drawer.xpos, "object_rotation": drawer.xquat}


@compiled
def observe(places: np.record) -> tuple[Vector, Quaternion]:
    """Return the position of the handle and the quaternion of the drawer."""
    return plus(vector(places.object), (0.0, -0.16, 0.0)), stored_quaternion(places.object_rotation)


@compiled
def reward(
    places: np.record, goal: np.record, obs: NDArray[np.float64], action: NDArray[np.float64], single: bool
) -> tuple[float, bool]:
    """Return the reward for a gripper at the handle and for opening, and whether the drawer is open."""
    gripper, handle = triple(obs, 0), triple(obs, 4)
    target = triple(goal.target_pos)
    handle_error = distance(handle, target)
    reward_for_opening = tolerance(handle_error, 0.0, 0.02, MAX_DISTANCE)

    handle_pos_init = plus(target, (0.0, MAX_DISTANCE, 0.0))
    gripper_error = length(times(minus(handle, gripper), _SCALE))
    gripper_error_init = length(times(minus(handle_pos_init, triple(goal.init_tcp)), _SCALE))
    reward_for_caging = tolerance(gripper_error, 0.0, 0.01, gripper_error_init)

    return (reward_for_caging + reward_for_opening) * 5.0, handle_error <= SUCCESS_DISTANCE
