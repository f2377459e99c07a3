"""drawer-close-v3: push a drawer shut."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05
SUCCESS_DISTANCE = TARGET_RADIUS + 0.015

_HANDLE_REACH_RADIUS = 0.005
_MAX_DISTANCE = 0.15

# The drawer.
places = {"object": "body drawer_link xpos"}


@m.observes
def observe(copy: Copy) -> None:
    """Return the position of the handle; no rotation is observed."""
    m.show(copy, m.plus(m.vector(copy.places.object), (0.0, -0.16, 0.05)), m.NO_ROTATION)


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for a fist at the handle and for closing, and whether the drawer is shut."""
    obj, obj_init = m.triple(copy.observation, 4), m.triple(copy.goal.obj_init_pos)
    target = m.triple(copy.goal.target_pos)
    target_to_obj = m.distance(obj, target)
    in_place_margin = abs(m.distance(obj_init, target) - TARGET_RADIUS)
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, in_place_margin)

    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    reach_margin = abs(m.distance(obj_init, m.triple(copy.goal.init_tcp)) - _HANDLE_REACH_RADIUS)
    reach = m.gaussian_tolerance(tcp_to_obj, 0.0, _HANDLE_REACH_RADIUS, reach_margin)
    closed, single = m.gripper_closed(copy)
    reach = m.hamacher_product(reach, closed, single)

    solved = target_to_obj <= SUCCESS_DISTANCE
    if solved:
        return 10.0, solved
    return m.rounded(m.hamacher_product(reach, in_place, single) * 10.0, single), solved


@m.rewards
def reward_v1(copy: Copy) -> tuple[float, bool]:
    """Return the v1 reward for fingers at the handle and for closing, and whether the drawer is shut."""
    push_dist = abs(copy.observation[5] - copy.goal.target_pos[1])
    return m.reward_at_object_v1(copy, m.nearness_v1(_MAX_DISTANCE, push_dist)), push_dist <= SUCCESS_DISTANCE
