"""lever-pull-v3: pull a lever up with the back of the hand."""

import math

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

LEVER_RADIUS = 0.2
SUCCESS_ANGLE = math.pi / 24.0

# Of the lever's end, as it hangs, from the lever's base.
_LEVER_OFFSET = (0.12, -LEVER_RADIUS, 0.25)
# Of the part of the hand that shall be under the lever, and how much errors along each axis weigh.
_SHOULDER_OFFSET = (0.0, 0.055, 0.07)
_SCALE = (4.0, 1.0, 4.0)

# The end of the lever and its hinge.
places = {
    "object": "site leverStart xpos",
    "object_rotation": "geom objGeom xmat",
    "lever_angle": "joint LeverAxis qpos",
}
observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for a hand under the lever and for lifting it, and whether it points upward."""
    gripper, lever = m.triple(copy.observation, 0), m.triple(copy.observation, 4)
    init_tcp, target = m.triple(copy.goal.init_tcp), m.triple(copy.goal.target_pos)
    lever_init = m.plus(m.triple(copy.goal.obj_init_pos), _LEVER_OFFSET)
    shoulder_to_lever = m.times(m.minus(m.plus(gripper, _SHOULDER_OFFSET), lever), _SCALE)
    shoulder_to_lever_init = m.times(m.minus(m.plus(init_tcp, _SHOULDER_OFFSET), lever_init), _SCALE)
    ready_to_lift = m.tolerance(m.length(shoulder_to_lever), 0.0, 0.02, m.length(shoulder_to_lever_init))
    in_place = m.tolerance(m.distance(lever, target), 0.0, 0.04, m.distance(lever_init, target))

    lever_error = abs(-m.doubles(copy.places.lever_angle)[0] - math.pi / 2.0)
    return 10.0 * m.hamacher_product(ready_to_lift, in_place), lever_error <= SUCCESS_ANGLE
