"""handle-press-side-v3: press a handle down that lies at the side of the table."""

from mtrl.env.native.tasks import handle_press

places, observe, reward = handle_press.places, handle_press.observe, handle_press.reward
