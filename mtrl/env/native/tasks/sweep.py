"""sweep-v3: sweep the puck off the table."""

from mujoco import MjData

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy, Places

TARGET_RADIUS = 0.05


def places(data: MjData) -> Places:
    """Return the puck."""
    puck = data.body("obj")
    return {"object": puck.xpos, "object_rotation": puck.xquat}


observe = m.position_and_quaternion


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for caging the puck and for bringing it to the target, and whether it is there."""
    return m.reward_of_sweep(copy, m.triple(copy.goal.target_pos), TARGET_RADIUS, 0.01, 0.005)
