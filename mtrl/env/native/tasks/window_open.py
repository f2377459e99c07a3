"""window-open-v3: slide a window open."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05

_HANDLE_RADIUS = 0.02

# The handle.
places = {"object": "site handleOpenStart xpos"}
observe = m.position_alone


@m.compiled
def sliding(copy: Copy, handle_init_x: float, gaussian: bool) -> tuple[float, bool]:
    """Return the reward for fingers at the handle and for sliding from ``handle_init_x``, and whether it is there."""
    obj, target_x = m.triple(copy.observation, 4), copy.goal.target_pos[0]
    target_to_obj = abs(obj[0] - target_x)
    in_place_margin = abs(abs(handle_init_x - target_x) - TARGET_RADIUS)
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, in_place_margin)

    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    tcp_to_obj_init = m.distance(m.triple(copy.goal.window_handle_pos_init), m.triple(copy.goal.init_tcp))
    reach_margin = abs(tcp_to_obj_init - _HANDLE_RADIUS)
    if gaussian:
        reach = m.gaussian_tolerance(tcp_to_obj, 0.0, _HANDLE_RADIUS, reach_margin)
    else:
        reach = m.tolerance(tcp_to_obj, 0.0, _HANDLE_RADIUS, reach_margin)
    return 10.0 * m.hamacher_product(reach, in_place), target_to_obj <= TARGET_RADIUS


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for fingers at the handle and for sliding, and whether the window is open."""
    return sliding(copy, copy.goal.obj_init_pos[0], False)


@m.rewards
def reward_v1(copy: Copy) -> tuple[float, bool]:
    """Return the v1 reward for fingers at the handle and for sliding, and whether the window is at its target.

    At the handle it can be negative.
    """
    pull_dist = abs(copy.observation[4] - copy.goal.target_pos[0])
    reach_dist = m.distance(m.triple(copy.observation, 4), m.tcp_center(copy))
    at_handle = m.nearness_v1(0.2, pull_dist) if reach_dist < 0.05 else 0.0
    return -reach_dist + at_handle, pull_dist <= TARGET_RADIUS
