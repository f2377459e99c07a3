"""plate-slide-side-v3: slide a plate sideways into a cabinet."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy
from mtrl.env.native.tasks.plate_slide import SUCCESS_RADIUS, TARGET_RADIUS, observe, places

__all__ = ["observe", "places", "reward"]


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for fingers on the plate and then for sliding it, and whether it is at the target."""
    obj, obj_init = m.triple(copy.observation, 4), m.triple(copy.goal.obj_init_pos)
    tcp, target = m.tcp_center(copy), m.triple(copy.goal.target_pos)
    obj_to_target = m.distance(obj, target)
    in_place_margin = m.distance(obj_init, target) - TARGET_RADIUS
    in_place = m.tolerance(obj_to_target, 0.0, TARGET_RADIUS, in_place_margin)

    tcp_to_obj = m.distance(tcp, obj)
    obj_grasped_margin = m.distance(m.triple(copy.goal.init_tcp), obj_init) - TARGET_RADIUS
    object_grasped = m.tolerance(tcp_to_obj, 0.0, TARGET_RADIUS, obj_grasped_margin)

    reward = 1.5 * object_grasped
    if tcp[2] <= 0.03 and tcp_to_obj < 0.07:
        reward = 2.0 + 7.0 * in_place
    if obj_to_target < TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= SUCCESS_RADIUS
