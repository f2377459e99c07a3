"""button-press-topdown-wall-v3: press a button from above, behind a wall."""

from mujoco import MjData

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy, Places

SUCCESS_DISTANCE = 0.024


def places(data: MjData) -> Places:
    """Return the button."""
    button = data.body("button")
    return {"object": button.xpos, "object_rotation": button.xquat}


@m.observes
def observe(copy: Copy) -> None:
    """Return the position of the button's top and its quaternion."""
    m.show_body(copy, (0.0, 0.0, 0.193))


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for an open gripper at the button and for pressing, and whether it is pressed."""
    obj = m.triple(copy.observation, 4)
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    tcp_to_obj_init = m.distance(obj, m.triple(copy.goal.init_tcp))
    obj_to_target = abs(copy.goal.target_pos[2] - obj[2])

    tcp_opened = copy.observation[3]
    near_button = m.tolerance(tcp_to_obj, 0.0, 0.01, tcp_to_obj_init)
    button_pressed = m.tolerance(obj_to_target, 0.0, 0.005, copy.goal.obj_to_target_init)

    reward = 5.0 * m.hamacher_product(tcp_opened, near_button)
    if tcp_to_obj <= 0.03:
        reward += 5.0 * button_pressed
    return reward, obj_to_target <= SUCCESS_DISTANCE
