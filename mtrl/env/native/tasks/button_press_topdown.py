"""button-press-topdown-v3: press a button from above."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from mtrl.env.native.maths import (
    Quaternion,
    Vector,
    compiled,
    distance,
    hamacher_product,
    plus,
    stored_quaternion,
    tcp_center,
    tolerance,
    triple,
    vector,
)

SUCCESS_DISTANCE = 0.024


def places(data: mujoco.MjData) -> dict[str, NDArray[np.float64]]:
    """Return the button."""
    button = data.body("button")
    return {"object": button.xpos, "object_rotation": button.xquat}


@compiled
def observe(places: np.record) -> tuple[Vector, Quaternion]:
    """Return the position of the button's top and its quaternion."""
    return plus(vector(places.object), (0.0, 0.0, 0.193)), stored_quaternion(places.object_rotation)


@compiled
def reward(
    places: np.record, goal: np.record, obs: NDArray[np.float64], action: NDArray[np.float64], single: bool
) -> tuple[float, bool]:
    """Return the reward for a closed gripper at the button and for pressing, and whether it is pressed."""
    obj = triple(obs, 4)
    tcp_to_obj = distance(obj, tcp_center(places))
    tcp_to_obj_init = distance(obj, triple(goal.init_tcp))
    obj_to_target = abs(goal.target_pos[2] - obj[2])

    tcp_closed = 1.0 - obs[3]
    near_button = tolerance(tcp_to_obj, 0.0, 0.01, tcp_to_obj_init)
    button_pressed = tolerance(obj_to_target, 0.0, 0.005, goal.obj_to_target_init)

    reward = 5.0 * hamacher_product(tcp_closed, near_button)
    if tcp_to_obj <= 0.03:
        reward += 5.0 * button_pressed
    return reward, obj_to_target <= SUCCESS_DISTANCE
