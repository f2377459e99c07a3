"""window-close-v3: slide a window shut."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from mtrl.env.native.maths import (
    Quaternion,
    Vector,
    compiled,
    distance,
    gaussian_tolerance,
    hamacher_product,
    no_quaternion,
    tcp_center,
    tolerance,
    triple,
    vector,
)

TARGET_RADIUS = 0.05

_HANDLE_RADIUS = 0.02


def places(data: mujoco.MjData) -> dict[str, NDArray[np.float64]]:
    """Return the handle."""
    return {"object": data.site("handleCloseStart").xpos}


@compiled
def observe(places: np.record) -> tuple[Vector, Quaternion]:
    """Return the position of the handle; no rotation is observed."""
    return vector(places.object), no_quaternion()


@compiled
def reward(
    places: np.record, goal: np.record, obs: NDArray[np.float64], action: NDArray[np.float64], single: bool
) -> tuple[float, bool]:
    """Return the reward for fingers at the handle and for sliding, and whether the window is shut."""
    obj = triple(obs, 4)
    target_to_obj = abs(obj[0] - goal.target_pos[0])
    target_to_obj_init = abs(goal.window_handle_pos_init[0] - goal.target_pos[0])
    in_place_margin = abs(target_to_obj_init - TARGET_RADIUS)
    in_place = tolerance(target_to_obj, 0.0, TARGET_RADIUS, in_place_margin)

    tcp_to_obj = distance(obj, tcp_center(places))
    tcp_to_obj_init = distance(triple(goal.window_handle_pos_init), triple(goal.init_tcp))
    reach = gaussian_tolerance(tcp_to_obj, 0.0, _HANDLE_RADIUS, abs(tcp_to_obj_init - _HANDLE_RADIUS))
    return 10.0 * hamacher_product(reach, in_place), target_to_obj <= TARGET_RADIUS
