"""button-press-topdown-wall-v3: press a button from above, behind a wall."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy
from mtrl.env.native.tasks.button_press_topdown import observe, places, pressing

__all__ = ["observe", "places", "reward"]


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for an open gripper at the button and for pressing, and whether it is pressed."""
    return pressing(copy, copy.observation[3])
