"""sweep-into-v3: sweep the puck into a hole."""

from mujoco import MjData

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy, Places

TARGET_RADIUS = 0.05


def places(data: MjData) -> Places:
    """Return the puck."""
    return {"object": data.body("obj").xpos, "object_rotation": data.geom("objGeom").xmat}


observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for caging the puck and for bringing it over the hole, and whether it is there."""
    # The puck may be at any height.
    target = copy.goal.target_pos[0], copy.goal.target_pos[1], copy.observation[6]
    return m.reward_of_sweep(copy, target, TARGET_RADIUS, 0.005, 0.01)
