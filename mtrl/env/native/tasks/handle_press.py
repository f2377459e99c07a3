"""handle-press-v3: press a handle down."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.02

_HANDLE_RADIUS = 0.02

# The handle.
places = {"object": "site handleStart xpos"}
observe = m.position_alone


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for fingers at the handle and for pressing it, and whether it is down."""
    obj, handle_init = m.triple(copy.observation, 4), m.triple(copy.goal.handle_pos_init)
    target_to_obj = abs(obj[2] - copy.goal.target_pos[2])
    target_to_obj_init = abs(handle_init[2] - copy.goal.target_pos[2])
    in_place_margin = abs(target_to_obj_init - TARGET_RADIUS)
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, in_place_margin)

    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    tcp_to_obj_init = m.distance(handle_init, m.triple(copy.goal.init_tcp))
    reach = m.tolerance(tcp_to_obj, 0.0, _HANDLE_RADIUS, abs(tcp_to_obj_init - _HANDLE_RADIUS))

    solved = target_to_obj <= TARGET_RADIUS
    return 10.0 if solved else m.hamacher_product(reach, in_place) * 10.0, solved
