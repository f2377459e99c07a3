"""drawer-open-v3: pull a drawer open."""

from mujoco import MjData

from mtrl.env.native.maths import (
    distance,
    length,
    minus,
    observes,
    plus,
    rewards,
    show,
    stored_quaternion,
    times,
    tolerance,
    triple,
    vector,
)
from mtrl.env.native.records import Copy, Places

MAX_DISTANCE = 0.2
SUCCESS_DISTANCE = 0.03

# Errors in x and y weigh more, so that the gripper can first come down onto the handle.
_SCALE = (3.0, 3.0, 1.0)


def places(data: MjData) -> Places:
    """Return the drawer."""
    drawer = data.body("drawer_link")
    return {"object": drawer.xpos, "object_rotation": drawer.xquat}


@observes
def observe(copy: Copy) -> None:
    """Return the position of the handle and the quaternion of the drawer."""
    show(
        copy,
        plus(vector(copy.places.object), (0.0, -0.16, 0.0)),
        stored_quaternion(copy.places.object_rotation),
    )


@rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for a gripper at the handle and for opening, and whether the drawer is open."""
    gripper, handle = triple(copy.observation, 0), triple(copy.observation, 4)
    target = triple(copy.goal.target_pos)
    handle_error = distance(handle, target)
    reward_for_opening = tolerance(handle_error, 0.0, 0.02, MAX_DISTANCE)

    handle_pos_init = plus(target, (0.0, MAX_DISTANCE, 0.0))
    gripper_error = length(times(minus(handle, gripper), _SCALE))
    gripper_error_init = length(times(minus(handle_pos_init, triple(copy.goal.init_tcp)), _SCALE))
    reward_for_caging = tolerance(gripper_error, 0.0, 0.01, gripper_error_init)

    return (reward_for_caging + reward_for_opening) * 5.0, handle_error <= SUCCESS_DISTANCE
