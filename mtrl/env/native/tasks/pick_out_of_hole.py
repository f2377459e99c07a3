"""pick-out-of-hole-v3: pick the puck out of a hole and carry it to a point in the air."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05
SUCCESS_RADIUS = 0.07

# The puck.
places = {"object": "body obj xpos", "object_rotation": "body obj xquat"}
observe = m.position_and_quaternion


@m.compiled
def _above_floor(tcp: m.Vector, hole: m.Vector) -> float:
    """Return 1 where the fingers are above a funnel centred on the hole, lest they run into its edge; less below."""
    floor = m.funnel(m.distance_in_plane(tcp, hole, 0, 1), 0.03, 0.015, 0.15)
    return 1.0 if tcp[2] >= floor else m.tolerance(floor - tcp[2], 0.0, 0.01, 0.02)


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping, lifting and placing the puck, and whether it is at the target."""
    obj, obj_init = m.triple(copy.observation, 4), m.triple(copy.goal.obj_init_pos)
    target, tcp = m.triple(copy.goal.target_pos), m.tcp_center(copy)
    obj_to_target = m.distance(obj, target)
    in_place = m.tolerance(obj_to_target, 0.0, 0.02, m.distance(obj_init, target))

    object_grasped, single = m.caging_reward(copy, obj, 0.015, 0.02, 0.03, desired_effort=0.1)
    reward = m.hamacher_product(object_grasped, in_place, single)
    pinched_without_obj = copy.observation[3] < 0.33
    if m.distance(obj, tcp) < 0.04 and obj[2] - 0.02 > obj_init[2] and not pinched_without_obj:
        more = 1.0 + 5.0 * m.hamacher_product(in_place, _above_floor(tcp, obj_init))
        reward = m.rounded(reward + m.rounded(more, single), single)
    if obj_to_target < TARGET_RADIUS:
        reward = 10.0
    return reward, obj_to_target <= SUCCESS_RADIUS
