"""plate-slide-v3: slide a plate forward into a cabinet."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05
SUCCESS_RADIUS = 0.07

# The plate.
places = {"object": "geom puck xpos", "object_rotation": "geom puck xmat"}
observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for fingers at the plate and for sliding it, and whether it is in the cabinet."""
    obj, obj_init = m.triple(copy.observation, 4), m.triple(copy.goal.obj_init_pos)
    target = m.triple(copy.goal.target_pos)
    obj_to_target = m.distance(obj, target)
    in_place = m.tolerance(obj_to_target, 0.0, TARGET_RADIUS, m.distance(obj_init, target))

    tcp_to_obj = m.distance(m.tcp_center(copy), obj)
    obj_grasped_margin = m.distance(m.triple(copy.goal.init_tcp), obj_init)
    object_grasped = m.tolerance(tcp_to_obj, 0.0, TARGET_RADIUS, obj_grasped_margin)

    reward = 8.0 * m.hamacher_product(object_grasped, in_place)
    if obj_to_target < TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= SUCCESS_RADIUS
