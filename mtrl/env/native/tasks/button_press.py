"""button-press-v3: press a button from the front."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

SUCCESS_DISTANCE = 0.02

_NEAR = 0.05

# The button.
places = {"object": "body button xpos", "object_rotation": "body button xquat"}


@m.observes
def observe(copy: Copy) -> None:
    """Return the position of the button's front and its quaternion."""
    m.show_body(copy, (0.0, -0.193, 0.0))


@m.compiled
def pressing(copy: Copy, obj_to_target_init: float) -> tuple[float, bool]:
    """Return the reward for an open gripper at the button and for pressing, and whether it is pressed."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    tcp_to_obj_init = m.distance(obj, m.triple(copy.goal.init_tcp))
    obj_to_target = abs(copy.goal.target_pos[1] - obj[1])

    near_button = m.tolerance(tcp_to_obj, 0.0, _NEAR, tcp_to_obj_init)
    button_pressed = m.tolerance(obj_to_target, 0.0, 0.005, obj_to_target_init)
    reward = 2.0 * m.hamacher_product(tcp_opened, near_button)
    if tcp_to_obj <= _NEAR:
        reward += 8.0 * button_pressed
    return reward, obj_to_target <= SUCCESS_DISTANCE


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for an open gripper at the button and for pressing, and whether it is pressed."""
    return pressing(copy, copy.goal.obj_to_target_init)
