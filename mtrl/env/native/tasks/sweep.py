"""sweep-v3: sweep the puck off the table."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05

# The puck.
places = {"object": "body obj xpos", "object_rotation": "body obj xquat"}
observe = m.position_and_quaternion


@m.compiled
def sweeping(
    copy: Copy, obj: m.Vector, obj_radius: float, grip_margin: float, xz_success_margin: float
) -> float:
    """Return the caging reward of the tasks that sweep an object, which asks no effort of the gripper."""
    caged_y = m.caging_between_pads(copy, obj, obj_radius)
    caged = m.hamacher_product(caged_y, m.caging_xz(copy, obj, xz_success_margin))
    gripping = m.caging_between_pads(copy, obj, obj_radius, obj_radius + grip_margin) if caged > 0.95 else 0.0
    return (caged + gripping) / 2.0


@m.compiled
def reward_of_sweep(
    copy: Copy, target: m.Vector, grip_margin: float, xz_success_margin: float
) -> tuple[float, bool]:
    """Return the reward for sweeping a puck to ``target``, and whether it is there."""
    obj = m.triple(copy.observation, 4)
    obj_to_target = m.distance(obj, target)
    in_place_margin = m.distance(m.triple(copy.goal.obj_init_pos), target)
    in_place = m.tolerance(obj_to_target, 0.0, TARGET_RADIUS, in_place_margin)
    object_grasped = sweeping(copy, obj, 0.02, grip_margin, xz_success_margin)
    reward = 2.0 * object_grasped + 6.0 * m.hamacher_product(object_grasped, in_place)
    if obj_to_target < TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= TARGET_RADIUS


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for caging the puck and for bringing it to the target, and whether it is there."""
    return reward_of_sweep(copy, m.triple(copy.goal.target_pos), 0.01, 0.005)
