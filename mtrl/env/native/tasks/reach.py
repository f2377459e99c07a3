"""reach-v3: bring the gripper to a point in the air."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from mtrl.env.native.maths import (
    Quaternion,
    Vector,
    compiled,
    distance,
    matrix_quaternion,
    tcp_center,
    tolerance,
    triple,
    vector,
)

TARGET_RADIUS = 0.05


def places(data: mujoco.MjData) -> dict[str, NDArray[np.float64]]:
    """Return the puck, which plays no part in the reward."""
    return {"object": data.body("obj").xpos, "object_rotation": data.geom("objGeom").xmat}


@compiled
def observe(places: np.record) -> tuple[Vector, Quaternion]:
    """Return position and quaternion of the puck."""
    return vector(places.object), matrix_quaternion(places.object_rotation)


@compiled
def reward(
    places: np.record, goal: np.record, obs: NDArray[np.float64], action: NDArray[np.float64], single: bool
) -> tuple[float, bool]:
    """Return the reward, which grows as the fingers near the target, and whether they are there."""
    target = triple(goal.target_pos)
    tcp_to_target = distance(tcp_center(places), target)
    in_place_margin = distance(triple(goal.hand_init_pos), target)
    in_place = tolerance(tcp_to_target, 0.0, TARGET_RADIUS, in_place_margin)
    return 10.0 * in_place, tcp_to_target <= TARGET_RADIUS
