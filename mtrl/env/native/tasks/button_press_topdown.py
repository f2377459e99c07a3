"""button-press-topdown-v3: press a button from above."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

SUCCESS_DISTANCE = 0.024

# The button.
places = {"object": "body button xpos", "object_rotation": "body button xquat"}


@m.observes
def observe(copy: Copy) -> None:
    """Return the position of the button's top and its quaternion."""
    m.show_body(copy, (0.0, 0.0, 0.193))


@m.compiled
def pressing(copy: Copy, tcp: float) -> tuple[float, bool]:
    """Return the reward for fingers, closed or open as ``tcp`` says, at the button and for pressing, and success."""
    obj = m.triple(copy.observation, 4)
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    tcp_to_obj_init = m.distance(obj, m.triple(copy.goal.init_tcp))
    obj_to_target = abs(copy.goal.target_pos[2] - obj[2])

    near_button = m.tolerance(tcp_to_obj, 0.0, 0.01, tcp_to_obj_init)
    button_pressed = m.tolerance(obj_to_target, 0.0, 0.005, copy.goal.obj_to_target_init)
    reward = 5.0 * m.hamacher_product(tcp, near_button)
    if tcp_to_obj <= 0.03:
        reward += 5.0 * button_pressed
    return reward, obj_to_target <= SUCCESS_DISTANCE


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for a closed gripper at the button and for pressing, and whether it is pressed."""
    return pressing(copy, 1.0 - copy.observation[3])


@m.rewards
def reward_v1(copy: Copy) -> tuple[float, bool]:
    """Return the v1 reward for fingers at the button and for pressing, and whether it is pressed."""
    press_dist = abs(copy.observation[6] - copy.goal.target_pos[2])
    nearness = m.nearness_v1(copy.goal.obj_to_target_init, press_dist)
    return m.reward_at_object_v1(copy, nearness), press_dist <= SUCCESS_DISTANCE
