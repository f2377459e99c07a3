"""faucet-close-v3: turn a faucet shut."""

from mujoco import MjData

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy, Places
from mtrl.env.native.tasks import faucet_open


def places(data: MjData) -> Places:
    """Return the other side of the handle, and the base."""
    return faucet_open.places(data) | {"object": data.site("handleStartClose").xpos}


observe = faucet_open.observe
_turning = faucet_open.turning


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for fingers at the handle and for turning it, and whether the faucet is shut."""
    return _turning(copy, m.triple(copy.observation, 4))
