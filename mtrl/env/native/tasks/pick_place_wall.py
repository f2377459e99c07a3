"""pick-place-wall-v3: pick up the puck and carry it over a wall to a point in the air."""

from mujoco import MjData

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy, Places

TARGET_RADIUS = 0.05
SUCCESS_RADIUS = 0.07

# Above the wall, where the puck must pass; errors in height weigh more.
_MIDPOINT_Y, _MIDPOINT_Z = 0.77, 0.25
_SCALE = (1.0, 1.0, 3.0)
_AT_WALL_Y = 0.75


def places(data: MjData) -> Places:
    """Return the puck."""
    puck = data.geom("objGeom")
    return {"object": puck.xpos, "object_rotation": puck.xmat}


observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the puck and for carrying it over the wall, and whether it is at the target."""
    obj, obj_init = m.triple(copy.observation, 4), m.triple(copy.goal.obj_init_pos)
    tcp_opened, target = copy.observation[3], m.triple(copy.goal.target_pos)
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))

    midpoint = (target[0], _MIDPOINT_Y, _MIDPOINT_Z)
    obj_to_midpoint = m.length(m.times(m.minus(obj, midpoint), _SCALE))
    obj_to_midpoint_init = m.length(m.times(m.minus(obj_init, midpoint), _SCALE))
    in_place_part1 = m.tolerance(obj_to_midpoint, 0.0, TARGET_RADIUS, obj_to_midpoint_init)
    obj_to_target = m.distance(obj, target)
    in_place_part2 = m.tolerance(obj_to_target, 0.0, TARGET_RADIUS, m.distance(obj_init, target))

    object_grasped, single = m.grip(copy, m.caging(copy, obj, 0.015, 0.05, 0.005))
    reward = m.hamacher_product(object_grasped, in_place_part1, single)
    if tcp_to_obj < 0.02 and tcp_opened > 0.0 and obj[2] - 0.015 > obj_init[2]:
        reward = m.reward_past_wall(reward, in_place_part1, in_place_part2, obj[1] > _AT_WALL_Y, single)
    if obj_to_target < TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= SUCCESS_RADIUS
