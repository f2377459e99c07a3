"""reach-v3: bring the gripper to a point in the air."""

from mujoco import MjData

from mtrl.env.native.maths import distance, position_and_matrix, rewards, tcp_center, tolerance, triple
from mtrl.env.native.records import Copy, Places

TARGET_RADIUS = 0.05


def places(data: MjData) -> Places:
    """Return the puck, which plays no part in the reward."""
    return {"object": data.body("obj").xpos, "object_rotation": data.geom("objGeom").xmat}


observe = position_and_matrix


@rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward, which grows as the fingers near the target, and whether they are there."""
    target = triple(copy.goal.target_pos)
    tcp_to_target = distance(tcp_center(copy), target)
    in_place_margin = distance(triple(copy.goal.hand_init_pos), target)
    in_place = tolerance(tcp_to_target, 0.0, TARGET_RADIUS, in_place_margin)
    return 10.0 * in_place, tcp_to_target <= TARGET_RADIUS
