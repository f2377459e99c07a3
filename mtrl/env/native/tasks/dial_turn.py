"""dial-turn-v3: turn a dial by its mark."""

import math

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.07

_DIAL_RADIUS = 0.05
_DIAL_REACH_RADIUS = 0.005

# From the mark to where the closed gripper pushes it.
_TO_PUSH_POSITION = (0.05, 0.02, 0.09)

# The dial and the angle of its knob.
places = {
    "object": "body dial xpos",
    "object_rotation": "body dial xquat",
    "dial_angle": "joint knob_Joint_1 qpos",
}


@m.observes
def observe(copy: Copy) -> None:
    """Observe the position of the mark at the dial's rim, and the quaternion of the dial."""
    angle = m.doubles(copy.places.dial_angle)[0]
    mark = (math.sin(angle) * _DIAL_RADIUS, -math.cos(angle) * _DIAL_RADIUS, 0.0)
    m.show(
        copy,
        m.plus(m.vector(copy.places.object), mark),
        m.stored_quaternion(copy.places.object_rotation),
    )


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for a fist at the dial's mark and for turning it, and whether it is turned."""
    obj, target = m.triple(copy.observation, 4), m.triple(copy.goal.target_pos)
    push_position, push_position_init = m.plus(obj, _TO_PUSH_POSITION), m.triple(copy.goal.dial_push_position)
    target_to_obj = m.distance(obj, target)
    in_place_margin = abs(m.distance(push_position_init, target) - TARGET_RADIUS)
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, in_place_margin)

    tcp_to_obj = m.distance(push_position, m.tcp_center(copy))
    reach_margin = abs(m.distance(push_position_init, m.triple(copy.goal.init_tcp)) - _DIAL_REACH_RADIUS)
    reach = m.gaussian_tolerance(tcp_to_obj, 0.0, _DIAL_REACH_RADIUS, reach_margin)
    closed, single = m.gripper_closed(copy)
    reach = m.hamacher_product(reach, closed, single)
    reward = m.rounded(10.0 * m.hamacher_product(reach, in_place, single), single)
    return reward, target_to_obj <= TARGET_RADIUS
