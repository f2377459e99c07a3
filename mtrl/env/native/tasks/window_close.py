"""window-close-v3: slide a window shut."""

from mujoco import MjData

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy, Places

TARGET_RADIUS = 0.05

_HANDLE_RADIUS = 0.02


def places(data: MjData) -> Places:
    """Return the handle."""
    return {"object": data.site("handleCloseStart").xpos}


observe = m.position_alone


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for fingers at the handle and for sliding, and whether the window is shut."""
    obj = m.triple(copy.observation, 4)
    target_to_obj = abs(obj[0] - copy.goal.target_pos[0])
    target_to_obj_init = abs(copy.goal.window_handle_pos_init[0] - copy.goal.target_pos[0])
    in_place_margin = abs(target_to_obj_init - TARGET_RADIUS)
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, in_place_margin)

    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    tcp_to_obj_init = m.distance(m.triple(copy.goal.window_handle_pos_init), m.triple(copy.goal.init_tcp))
    reach = m.gaussian_tolerance(tcp_to_obj, 0.0, _HANDLE_RADIUS, abs(tcp_to_obj_init - _HANDLE_RADIUS))
    return 10.0 * m.hamacher_product(reach, in_place), target_to_obj <= TARGET_RADIUS


@m.rewards
def reward_v1(copy: Copy) -> tuple[float, bool]:
    """Return the v1 reward for fingers at the handle and for sliding, and whether the window is shut."""
    pull_dist = abs(copy.observation[4] - copy.goal.target_pos[0])
    return m.reward_of_sliding_v1(copy, pull_dist), pull_dist <= TARGET_RADIUS
