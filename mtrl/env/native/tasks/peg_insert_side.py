"""peg-insert-side-v3: pick up a peg and insert it into a hole from the side."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.07

# Errors across the hole weigh twice those along it.
_SCALE = (1.0, 2.0, 2.0)

# Where the peg is grasped, its head, and the two boxes that it must not run into.
places = {
    "object": "site pegGrasp xpos",
    "object_rotation": "site pegGrasp xmat",
    "peg_head": "site pegHead xpos",
    "bottom_right_corner_1": "site bottom_right_corner_collision_box_1 xpos",
    "top_left_corner_1": "site top_left_corner_collision_box_1 xpos",
    "bottom_right_corner_2": "site bottom_right_corner_collision_box_2 xpos",
    "top_left_corner_2": "site top_left_corner_collision_box_2 xpos",
}
observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping, lifting and inserting the peg, and whether its head is in the hole."""
    obj, tcp_opened = m.triple(copy.observation, 4), copy.observation[3]
    obj_head, target = m.vector(copy.places.peg_head), m.triple(copy.goal.target_pos)
    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    obj_to_target = m.length(m.times(m.minus(obj_head, target), _SCALE))
    in_place_margin = m.length(m.times(m.minus(m.triple(copy.goal.peg_head_pos_init), target), _SCALE))
    in_place = m.tolerance(obj_to_target, 0.0, TARGET_RADIUS, in_place_margin)

    zero_1, one_1 = m.vector(copy.places.bottom_right_corner_1), m.vector(copy.places.top_left_corner_1)
    zero_2, one_2 = m.vector(copy.places.bottom_right_corner_2), m.vector(copy.places.top_left_corner_2)
    collision_boxes = m.hamacher_product(
        m.prism_tolerance(obj_head, zero_2, one_2), m.prism_tolerance(obj_head, zero_1, one_1)
    )
    in_place = m.hamacher_product(in_place, collision_boxes)

    object_grasped, single = m.caging_reward(copy, obj, 0.0075, 0.03, 0.005)
    lifted = tcp_to_obj < 0.08 and tcp_opened > 0.0 and obj[2] - 0.01 > copy.goal.obj_init_pos[2]
    if lifted:
        object_grasped, single = 1.0, False
    # Inside a box ``in_place`` is a numpy float64, which keeps its precision against a float32.
    single = single and not (
        m.inside_prism(obj_head, zero_1, one_1) or m.inside_prism(obj_head, zero_2, one_2)
    )
    reward = m.hamacher_product(object_grasped, in_place, single)
    if lifted:
        reward += 1.0 + 5.0 * in_place
    solved = obj_to_target <= TARGET_RADIUS
    if solved:
        reward = 10.0
    return reward, solved


@m.rewards
def reward_v1(copy: Copy) -> tuple[float, bool]:
    """Return the v1 reward for grasping, lifting and inserting the peg, and whether its grip is at the hole.

    Success is less than that of v2: where the peg is grasped counts, not its head.
    """
    target = m.triple(copy.goal.target_pos)
    placing_dist = m.distance(m.triple(copy.observation, 4), target)
    head_dist = m.distance(m.vector(copy.places.peg_head), target)
    carrying_dist = placing_dist if head_dist <= 0.05 else head_dist
    return m.reward_of_carrying_v1(copy, placing_dist, carrying_dist, 1.0), placing_dist <= TARGET_RADIUS
