"""push-v3: push the puck to a point on the table."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from mtrl.env.native.maths import (
    Quaternion,
    Vector,
    caging_reward,
    compiled,
    distance,
    matrix_quaternion,
    rounded,
    tcp_center,
    tolerance,
    triple,
    vector,
)

TARGET_RADIUS = 0.05


def places(data: mujoco.MjData) -> dict[str, NDArray[np.float64]]:
    """Return the puck."""
    return {"object": data.body("obj").xpos, "object_rotation": data.geom("objGeom").xmat}


@compiled
def observe(places: np.record) -> tuple[Vector, Quaternion]:
    """Return position and quaternion of the puck."""
    return vector(places.object), matrix_quaternion(places.object_rotation)


@compiled
def reward(
    places: np.record, goal: np.record, obs: NDArray[np.float64], action: NDArray[np.float64], single: bool
) -> tuple[float, bool]:
    """Return the reward for caging the puck and for bringing it to the target, and whether it is there."""
    obj, tcp_opened = triple(obs, 4), obs[3]
    target = triple(goal.target_pos)
    tcp_to_obj = distance(obj, tcp_center(places))
    target_to_obj = distance(obj, target)
    target_to_obj_init = distance(triple(goal.obj_init_pos), target)
    in_place = tolerance(target_to_obj, 0.0, TARGET_RADIUS, target_to_obj_init)

    object_grasped, single = caging_reward(places, goal, obj, action, single, 0.015, 0.05, 0.005)
    reward = 2.0 * object_grasped
    if tcp_to_obj < 0.02 and tcp_opened > 0.0:
        more = rounded(rounded(1.0 + reward, single) + rounded(5.0 * in_place, single), single)
        reward = rounded(reward + more, single)
    if target_to_obj < TARGET_RADIUS:
        reward = 10.0
    return reward, target_to_obj <= TARGET_RADIUS
