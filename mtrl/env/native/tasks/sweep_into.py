"""sweep-into-v3: sweep the puck into a hole."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy
from mtrl.env.native.tasks.sweep import reward_of_sweep

# The puck.
places = {"object": "body obj xpos", "object_rotation": "geom objGeom xmat"}
observe = m.position_and_matrix


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for caging the puck and for bringing it over the hole, and whether it is there."""
    # The puck may be at any height.
    target = copy.goal.target_pos[0], copy.goal.target_pos[1], copy.observation[6]
    return reward_of_sweep(copy, target, 0.005, 0.01)
