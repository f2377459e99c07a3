"""drawer-close-v3: push a drawer shut."""

from mujoco import MjData

from mtrl.env.native.maths import (
    NO_ROTATION,
    distance,
    gaussian_tolerance,
    gripper_closed,
    hamacher_product,
    observes,
    plus,
    rewards,
    rounded,
    show,
    tcp_center,
    tolerance,
    triple,
    vector,
)
from mtrl.env.native.records import Copy, Places

TARGET_RADIUS = 0.05
SUCCESS_DISTANCE = TARGET_RADIUS + 0.015

_HANDLE_REACH_RADIUS = 0.005


def places(data: MjData) -> Places:
    """Return the drawer."""
    return {"object": data.body("drawer_link").xpos}


@observes
def observe(copy: Copy) -> None:
    """Return the position of the handle; no rotation is observed."""
    show(copy, plus(vector(copy.places.object), (0.0, -0.16, 0.05)), NO_ROTATION)


@rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for a fist at the handle and for closing, and whether the drawer is shut."""
    obj, obj_init = triple(copy.observation, 4), triple(copy.goal.obj_init_pos)
    target = triple(copy.goal.target_pos)
    target_to_obj = distance(obj, target)
    in_place_margin = abs(distance(obj_init, target) - TARGET_RADIUS)
    in_place = tolerance(target_to_obj, 0.0, TARGET_RADIUS, in_place_margin)

    tcp_to_obj = distance(obj, tcp_center(copy))
    reach_margin = abs(distance(obj_init, triple(copy.goal.init_tcp)) - _HANDLE_REACH_RADIUS)
    reach = gaussian_tolerance(tcp_to_obj, 0.0, _HANDLE_REACH_RADIUS, reach_margin)
    closed, single = gripper_closed(copy)
    reach = hamacher_product(reach, closed, single)

    solved = target_to_obj <= SUCCESS_DISTANCE
    if solved:
        return 10.0, solved
    return rounded(hamacher_product(reach, in_place, single) * 10.0, single), solved
