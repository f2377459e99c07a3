"""faucet-close-v3: turn a faucet shut."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy
from mtrl.env.native.tasks import faucet_open

# The other side of the handle, and the base.
places = faucet_open.places | {"object": "site handleStartClose xpos"}
observe = faucet_open.observe
_turning = faucet_open.turning


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for fingers at the handle and for turning it, and whether the faucet is shut."""
    return _turning(copy, m.triple(copy.observation, 4))
