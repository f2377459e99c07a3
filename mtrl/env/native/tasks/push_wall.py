"""push-wall-v3: push the puck around a wall to a point on the table."""

from mujoco import MjData

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy, Places

TARGET_RADIUS = 0.05
SUCCESS_RADIUS = 0.07

# Beside the wall, where the puck must pass; errors in x weigh more.
_MIDPOINT_X, _MIDPOINT_Y = -0.05, 0.77
_SCALE = (3.0, 1.0, 1.0)
_AT_WALL_Y = 0.75


def places(data: MjData) -> Places:
    """Return the puck."""
    puck = data.geom("objGeom")
    return {"object": puck.xpos, "object_rotation": puck.xmat}


observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for caging the puck and for pushing it past the wall, and whether it is at the target."""
    obj, obj_init = m.triple(copy.observation, 4), m.triple(copy.goal.obj_init_pos)
    tcp_opened, target = copy.observation[3], m.triple(copy.goal.target_pos)
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))

    midpoint = (_MIDPOINT_X, _MIDPOINT_Y, obj[2])
    obj_to_midpoint = m.length(m.times(m.minus(obj, midpoint), _SCALE))
    obj_to_midpoint_init = m.length(m.times(m.minus(obj_init, midpoint), _SCALE))
    in_place_part1 = m.tolerance(obj_to_midpoint, 0.0, TARGET_RADIUS, obj_to_midpoint_init)
    obj_to_target = m.distance(obj, target)
    in_place_part2 = m.tolerance(obj_to_target, 0.0, TARGET_RADIUS, m.distance(obj_init, target))

    object_grasped, single = m.caging_reward(copy, obj, 0.015, 0.05, 0.005)
    reward = 2.0 * object_grasped
    if tcp_to_obj < 0.02 and tcp_opened > 0.0:
        reward = m.reward_past_wall(reward, in_place_part1, in_place_part2, obj[1] > _AT_WALL_Y, single)
    if obj_to_target < TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= SUCCESS_RADIUS
