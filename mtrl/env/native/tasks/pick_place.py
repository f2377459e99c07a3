"""pick-place-v3: pick up the puck and carry it to a point in the air."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from mtrl.env.native.maths import (
    Quaternion,
    Vector,
    cage_and_grip,
    compiled,
    distance,
    distance_in_plane,
    hamacher_product,
    matrix_quaternion,
    rounded,
    tcp_center,
    tolerance,
    triple,
    vector,
)

TARGET_RADIUS = 0.05
SUCCESS_RADIUS = 0.07

_OBJECT_RADIUS = 0.015
_PAD_SUCCESS_MARGIN = 0.05
_XZ_SUCCESS_MARGIN = 0.005


def places(data: mujoco.MjData) -> dict[str, NDArray[np.float64]]:
    """Return the puck."""
    return {"object": data.body("obj").xpos, "object_rotation": data.geom("objGeom").xmat}


@compiled
def observe(places: np.record) -> tuple[Vector, Quaternion]:
    """Return position and quaternion of the puck."""
    return vector(places.object), matrix_quaternion(places.object_rotation)


@compiled
def _caging(
    places: np.record, goal: np.record, obj: Vector, action: NDArray[np.float64], single: bool
) -> tuple[float, bool]:
    """Return this task's own version of ``rewards.caging_reward``.

    Its margins come from ``init_left_pad`` and ``init_right_pad``, which in Meta-World are views of the
    simulation and so follow the pads.
    """
    left_pad_y, right_pad_y = vector(places.left_pad)[1], vector(places.right_pad)[1]
    left_margin = abs(abs(obj[1] - left_pad_y) - _PAD_SUCCESS_MARGIN)
    right_margin = abs(abs(obj[1] - right_pad_y) - _PAD_SUCCESS_MARGIN)
    left_caging = tolerance(left_pad_y - obj[1], _OBJECT_RADIUS, _PAD_SUCCESS_MARGIN, left_margin)
    right_caging = tolerance(obj[1] - right_pad_y, _OBJECT_RADIUS, _PAD_SUCCESS_MARGIN, right_margin)
    y_caging = hamacher_product(left_caging, right_caging)

    init_distance = distance_in_plane(triple(goal.obj_init_pos), triple(goal.init_tcp), 0, 2)
    tcp_to_obj = distance_in_plane(tcp_center(places), obj, 0, 2)
    xz_caging = tolerance(tcp_to_obj, 0.0, _XZ_SUCCESS_MARGIN, init_distance - _XZ_SUCCESS_MARGIN)
    return cage_and_grip(hamacher_product(y_caging, xz_caging), action, single)


@compiled
def reward(
    places: np.record, goal: np.record, obs: NDArray[np.float64], action: NDArray[np.float64], single: bool
) -> tuple[float, bool]:
    """Return the reward for grasping, lifting and placing the puck, and whether it is at the target."""
    obj, tcp_opened = triple(obs, 4), obs[3]
    target = triple(goal.target_pos)
    obj_to_target = distance(obj, target)
    tcp_to_obj = distance(obj, tcp_center(places))
    in_place_margin = distance(triple(goal.obj_init_pos), target)
    in_place = tolerance(obj_to_target, 0.0, TARGET_RADIUS, in_place_margin)

    object_grasped, single = _caging(places, goal, obj, action, single)
    reward = hamacher_product(object_grasped, in_place, single)
    if tcp_to_obj < 0.02 and tcp_opened > 0.0 and obj[2] - 0.01 > goal.obj_init_pos[2]:
        reward = rounded(reward + rounded(1.0 + 5.0 * in_place, single), single)
    if obj_to_target < TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= SUCCESS_RADIUS
