"""soccer-v3: push a ball into a goal."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy
from mtrl.env.native.tasks.sweep import sweeping

TARGET_RADIUS = 0.07

_OBJECT_RADIUS = 0.013

# Errors across the goal weigh more than those along it.
_SCALE = (3.0, 1.0, 1.0)

# The ball.
places = {"object": "body soccer_ball xpos", "object_rotation": "body soccer_ball xmat"}
observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for caging the ball and for bringing it to the target, and whether it is there."""
    obj, target = m.triple(copy.observation, 4), m.triple(copy.goal.target_pos)
    target_to_obj = m.length(m.times(m.minus(obj, target), _SCALE))
    obj_moved = m.length(m.times(m.minus(obj, m.triple(copy.goal.obj_init_pos)), _SCALE))
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, obj_moved)

    # A ball that passes the goal on its outside loses what it had.
    goal_line = target[1] - 0.1
    if obj[1] > goal_line and abs(obj[0] - target[0]) > 0.10:
        in_place -= 2.0 * ((obj[1] - goal_line) / (1.0 - goal_line))
        in_place = min(max(in_place, 0.0), 1.0)

    object_grasped = sweeping(copy, obj, _OBJECT_RADIUS, 0.01, 0.005)
    reward = 3.0 * object_grasped + 6.5 * in_place
    if target_to_obj < TARGET_RADIUS:
        reward = 10.0
    return reward, m.distance(obj, target) <= TARGET_RADIUS
