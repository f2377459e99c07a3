"""coffee-button-v3: press the button of a coffee machine."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy
from mtrl.env.native.tasks.button_press import pressing

MAX_DISTANCE = 0.03

# The button.
places = {"object": "site buttonStart xpos"}


@m.observes
def observe(copy: Copy) -> None:
    """Return the position of the button; the machine is never turned."""
    m.show(copy, m.vector(copy.places.object), (1.0, 0.0, 0.0, 0.0))


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for an open gripper at the button and for pressing, and whether it is pressed."""
    return pressing(copy, MAX_DISTANCE)
