"""One module per task: where its object is, what is observed of it, and Meta-World's v2 reward.

Each module has three functions. ``places(data)`` names the arrays of an ``MjData`` whose addresses the step
needs beyond those of the hand. ``observe(places)`` returns position and quaternion of the object.
``reward(places, goal, obs, action, single)`` returns the reward and whether the task is solved; ``action``
holds float64 whatever it came in, and ``single`` says that it came in float32 (see ``geometry.rounded``).
"""

from types import ModuleType

from mtrl.env.native.tasks import (
    button_press_topdown,
    door_open,
    drawer_close,
    drawer_open,
    peg_insert_side,
    pick_place,
    push,
    reach,
    window_close,
    window_open,
)

MODULES: dict[str, ModuleType] = {
    "reach-v3": reach,
    "push-v3": push,
    "pick-place-v3": pick_place,
    "door-open-v3": door_open,
    "drawer-open-v3": drawer_open,
    "drawer-close-v3": drawer_close,
    "button-press-topdown-v3": button_press_topdown,
    "peg-insert-side-v3": peg_insert_side,
    "window-open-v3": window_open,
    "window-close-v3": window_close,
}
"""The module of each task; a task's place here is the number by which a copy's record and the kernel know it."""
