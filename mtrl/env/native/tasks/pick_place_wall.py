"""pick-place-wall-v3: pick up the puck and carry it over a wall to a point in the air."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy
from mtrl.env.native.tasks import push_wall
from mtrl.env.native.tasks.push_wall import SUCCESS_RADIUS, TARGET_RADIUS

# Above the wall, where the puck must pass; errors in height weigh more.
_MIDPOINT_Y, _MIDPOINT_Z = 0.77, 0.25
_SCALE = (1.0, 1.0, 3.0)

places, observe = push_wall.places, push_wall.observe
_in_place, _past_wall = push_wall.in_place_before_and_behind, push_wall.past_wall


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the puck and for carrying it over the wall, and whether it is at the target."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    midpoint = (copy.goal.target_pos[0], _MIDPOINT_Y, _MIDPOINT_Z)
    before, behind = _in_place(copy, obj, midpoint, _SCALE)
    obj_to_target = m.distance(obj, m.triple(copy.goal.target_pos))

    object_grasped, single = m.grip(copy, m.caging(copy, obj, 0.015, 0.05, 0.005))
    reward = m.hamacher_product(object_grasped, before, single)
    near = m.distance(obj, m.tcp_center(copy)) < 0.02
    if near and tcp_opened > 0.0 and obj[2] - 0.015 > copy.goal.obj_init_pos[2]:
        reward = _past_wall(reward, before, behind, obj, single)
    if obj_to_target < TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= SUCCESS_RADIUS
