"""door-lock-v3: lock a door by turning its lock down."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

LOCK_LENGTH = 0.1
SUCCESS_DISTANCE = 0.02

_SCALE = (0.25, 1.0, 0.5)

# The end of the lock, and the door.
places = {"object": "site lockStartLock xpos", "object_rotation": "body door_link xquat"}
observe = m.position_and_quaternion


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for an open gripper at the lock and for turning it, and whether it is locked.

    In Meta-World the margin comes from ``init_left_pad``, a view of the simulation, and so follows the pad.
    """
    obj = m.triple(copy.observation, 4)
    tcp_to_obj = m.length(m.times(m.minus(obj, m.vector(copy.places.left_pad)), _SCALE))
    obj_to_target = abs(copy.goal.target_pos[2] - obj[2])

    tcp_opened = max(copy.observation[3], 0.0)
    near_lock = m.tolerance(tcp_to_obj, 0.0, 0.01, tcp_to_obj)
    lock_pressed = m.tolerance(obj_to_target, 0.0, 0.005, LOCK_LENGTH)
    reward = 2.0 * m.hamacher_product(tcp_opened, near_lock) + 8.0 * lock_pressed
    return reward, obj_to_target <= SUCCESS_DISTANCE
