"""door-unlock-v3: unlock a door by pushing its lock aside."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

LOCK_LENGTH = 0.1
SUCCESS_DISTANCE = 0.02

_SCALE = (0.25, 1.0, 0.5)

# From the fingers to the gripper's shoulder, which is to push.
_SHOULDER = (0.0, 0.055, 0.07)

# The end of the lock, and the door.
places = {"object": "site lockStartUnlock xpos", "object_rotation": "body door_link xquat"}
observe = m.position_and_quaternion


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for the gripper's shoulder at the lock and for pushing, and whether it is unlocked."""
    gripper, lock = m.triple(copy.observation, 0), m.triple(copy.observation, 4)
    shoulder_to_lock = m.length(m.times(m.minus(m.plus(gripper, _SHOULDER), lock), _SCALE))
    shoulder_init = m.plus(m.triple(copy.goal.init_tcp), _SHOULDER)
    shoulder_to_lock_init = m.length(
        m.times(m.minus(shoulder_init, m.triple(copy.goal.obj_init_pos)), _SCALE)
    )
    ready_to_push = m.tolerance(shoulder_to_lock, 0.0, 0.02, shoulder_to_lock_init)
    obj_to_target = abs(copy.goal.target_pos[0] - lock[0])
    pushed = m.tolerance(obj_to_target, 0.0, 0.005, LOCK_LENGTH)
    return 2.0 * ready_to_push + 8.0 * pushed, obj_to_target <= SUCCESS_DISTANCE
