"""The 50 goals of a task: the same that ``metaworld.MT1(task, seed)`` makes, twenty times faster."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mtrl.env.original import make_original
from mtrl.tasks import GOALS


@lru_cache(maxsize=256)
def goal_set(task: str, seed: int) -> NDArray[np.float64]:
    """Return the random vectors of the goals of ``task``, shape (50, 3 or more), in Meta-World's order.

    Meta-World draws them from numpy's global generator while it resets an environment 100 times, and spends all
    the time moving the hand. The draws do not depend on where the hand is, so one step of that move is enough
    (tested on all tasks; without any step, some tasks read rotation matrices that MuJoCo has not yet filled).
    """
    env = make_original(task)
    env._freeze_rand_vec = False
    env._set_task_called = True
    env._reset_hand = lambda steps=1: type(env)._reset_hand(env, 1)
    global_state = np.random.get_state()
    np.random.seed(seed)
    try:
        goals = []
        for _ in range(GOALS):
            env.reset()
            goals.append(env._last_rand_vec)
    finally:
        np.random.set_state(global_state)
        env.close()
    array = np.array(goals, dtype=np.float64)
    array.setflags(write=False)
    return array
