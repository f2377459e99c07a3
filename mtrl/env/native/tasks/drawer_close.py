"""drawer-close-v3: push a drawer shut."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from mtrl.env.native.maths import (
    Quaternion,
    Vector,
    compiled,
    distance,
    gaussian_tolerance,
    gripper_closed,
    hamacher_product,
    no_quaternion,
    plus,
    rounded,
    tcp_center,
    tolerance,
    triple,
    vector,
)

TARGET_RADIUS = 0.05
SUCCESS_DISTANCE = TARGET_RADIUS + 0.015

_HANDLE_REACH_RADIUS = 0.005


def places(data: mujoco.MjData) -> dict[str, NDArray[np.float64]]:
    """Return the drawer."""
    return {"object": data.body("drawer_link").xpos}


@compiled
def observe(places: np.record) -> tuple[Vector, Quaternion]:
    """Return the position of the handle; no rotation is observed."""
    return plus(vector(places.object), (0.0, -0.16, 0.05)), no_quaternion()


@compiled
def reward(
    places: np.record, goal: np.record, obs: NDArray[np.float64], action: NDArray[np.float64], single: bool
) -> tuple[float, bool]:
    """Return the reward for a fist at the handle and for closing, and whether the drawer is shut."""
    obj, obj_init = triple(obs, 4), triple(goal.obj_init_pos)
    target = triple(goal.target_pos)
    target_to_obj = distance(obj, target)
    in_place_margin = abs(distance(obj_init, target) - TARGET_RADIUS)
    in_place = tolerance(target_to_obj, 0.0, TARGET_RADIUS, in_place_margin)

    tcp_to_obj = distance(obj, tcp_center(places))
    reach_margin = abs(distance(obj_init, triple(goal.init_tcp)) - _HANDLE_REACH_RADIUS)
    reach = gaussian_tolerance(tcp_to_obj, 0.0, _HANDLE_REACH_RADIUS, reach_margin)
    closed, single = gripper_closed(action, single)
    reach = hamacher_product(reach, closed, single)

    solved = target_to_obj <= SUCCESS_DISTANCE
    if solved:
        return 10.0, solved
    return rounded(hamacher_product(reach, in_place, single) * 10.0, single), solved
