"""push-wall-v3: push the puck around a wall to a point on the table."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05
SUCCESS_RADIUS = 0.07

# Beside the wall, where the puck must pass; errors in x weigh more.
_MIDPOINT_X, _MIDPOINT_Y = -0.05, 0.77
_SCALE = (3.0, 1.0, 1.0)
_AT_WALL_Y = 0.75

# The puck.
places = {"object": "geom objGeom xpos", "object_rotation": "geom objGeom xmat"}
observe = m.position_and_matrix


@m.compiled
def in_place_before_and_behind(
    copy: Copy, obj: m.Vector, midpoint: m.Vector, scale: m.Vector
) -> tuple[float, float]:
    """Return how near the puck is to a point at the wall, where errors weigh ``scale``, and to the target."""
    obj_init, target = m.triple(copy.goal.obj_init_pos), m.triple(copy.goal.target_pos)
    obj_to_midpoint = m.length(m.times(m.minus(obj, midpoint), scale))
    obj_to_midpoint_init = m.length(m.times(m.minus(obj_init, midpoint), scale))
    before = m.tolerance(obj_to_midpoint, 0.0, TARGET_RADIUS, obj_to_midpoint_init)
    return before, m.tolerance(m.distance(obj, target), 0.0, TARGET_RADIUS, m.distance(obj_init, target))


@m.compiled
def past_wall(reward: float, before: float, behind: float, obj: m.Vector, single: bool) -> float:
    """Return the reward of a grasp with that for the way to the wall and, from the wall on, for the way behind it."""
    reward = m.rounded(reward + 1.0, single)
    if not obj[1] > _AT_WALL_Y:
        return m.rounded(reward + m.rounded(4.0 * before, single), single)
    return m.rounded(m.rounded(reward + 4.0, single) + m.rounded(3.0 * behind, single), single)


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for caging the puck and for pushing it past the wall, and whether it is at the target."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    before, behind = in_place_before_and_behind(copy, obj, (_MIDPOINT_X, _MIDPOINT_Y, obj[2]), _SCALE)
    obj_to_target = m.distance(obj, m.triple(copy.goal.target_pos))

    object_grasped, single = m.caging_reward(copy, obj, 0.015, 0.05, 0.005)
    reward = 2.0 * object_grasped
    if m.distance(obj, m.tcp_center(copy)) < 0.02 and tcp_opened > 0.0:
        reward = past_wall(reward, before, behind, obj, single)
    if obj_to_target < TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= SUCCESS_RADIUS
