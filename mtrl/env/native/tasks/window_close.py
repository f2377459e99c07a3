"""window-close-v3: slide a window shut."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy
from mtrl.env.native.tasks.window_open import observe, reward_v1, sliding

__all__ = ["observe", "places", "reward", "reward_v1"]

# The handle.
places = {"object": "site handleCloseStart xpos"}


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for fingers at the handle and for sliding, and whether the window is shut."""
    return sliding(copy, copy.goal.window_handle_pos_init[0], True)
