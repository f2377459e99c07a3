"""button-press-wall-v3: press a button from the front, behind a wall."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy
from mtrl.env.native.tasks.button_press import observe, places

__all__ = ["observe", "places", "reward"]

SUCCESS_DISTANCE = 0.03


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for a fist on its way, then for opening it and pressing, and whether it is pressed."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    tcp_to_obj_init = m.distance(obj, m.triple(copy.goal.init_tcp))
    obj_to_target = abs(copy.goal.target_pos[1] - obj[1])

    near_button = m.tolerance(tcp_to_obj, 0.0, 0.01, tcp_to_obj_init)
    button_pressed = m.tolerance(obj_to_target, 0.0, 0.005, copy.goal.obj_to_target_init)

    if tcp_to_obj > 0.07:
        reward = 2.0 * m.hamacher_product((1.0 - tcp_opened) / 2.0, near_button)
    else:
        reward = 2.0 + 2.0 * (1.0 + tcp_opened) + 4.0 * button_pressed**2
    return reward, obj_to_target <= SUCCESS_DISTANCE
