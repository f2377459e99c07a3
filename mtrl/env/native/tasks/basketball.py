"""basketball-v3: pick up a ball and bring it above the hoop."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.08

_ABOVE_THE_HOOP = 0.3
# Errors in height weigh twice.
_SCALE = (1.0, 1.0, 2.0)

# The ball.
places = {"object": "body bsktball xpos", "object_rotation": "body bsktball xquat"}
observe = m.position_and_quaternion


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the ball and bringing it to the hoop, and whether it is there."""
    obj, obj_init = m.triple(copy.observation, 4), m.triple(copy.goal.obj_init_pos)
    target = (copy.goal.target_pos[0], copy.goal.target_pos[1], _ABOVE_THE_HOOP)
    target_to_obj = m.length(m.times(m.minus(obj, target), _SCALE))
    target_to_obj_init = m.length(m.times(m.minus(obj_init, target), _SCALE))
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, target_to_obj_init)
    tcp_opened, tcp_to_obj = copy.observation[3], m.distance(obj, m.tcp_center(copy))

    object_grasped, single = m.caging_reward(copy, obj, 0.025, 0.06, 0.005)
    lifted = tcp_to_obj < 0.035 and tcp_opened > 0.0 and obj[2] - 0.01 > obj_init[2]
    if lifted:
        object_grasped, single = 1.0, False
    reward = m.hamacher_product(object_grasped, in_place, single)
    if lifted:
        reward += 1.0 + 5.0 * in_place
    if target_to_obj < TARGET_RADIUS:
        reward = 10.0
    return reward, target_to_obj <= TARGET_RADIUS
