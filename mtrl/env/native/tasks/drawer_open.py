"""drawer-open-v3: pull a drawer open."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

MAX_DISTANCE = 0.2
SUCCESS_DISTANCE = 0.03

# Errors in x and y weigh more, so that the gripper can first come down onto the handle.
_SCALE = (3.0, 3.0, 1.0)

# The drawer.
places = {"object": "body drawer_link xpos", "object_rotation": "body drawer_link xquat"}


@m.observes
def observe(copy: Copy) -> None:
    """Return the position of the handle and the quaternion of the drawer."""
    m.show_body(copy, (0.0, -0.16, 0.0))


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for a gripper at the handle and for opening, and whether the drawer is open."""
    gripper, handle = m.triple(copy.observation, 0), m.triple(copy.observation, 4)
    target = m.triple(copy.goal.target_pos)
    handle_error = m.distance(handle, target)
    reward_for_opening = m.tolerance(handle_error, 0.0, 0.02, MAX_DISTANCE)

    handle_pos_init = m.plus(target, (0.0, MAX_DISTANCE, 0.0))
    gripper_error = m.length(m.times(m.minus(handle, gripper), _SCALE))
    gripper_error_init = m.length(m.times(m.minus(handle_pos_init, m.triple(copy.goal.init_tcp)), _SCALE))
    reward_for_caging = m.tolerance(gripper_error, 0.0, 0.01, gripper_error_init)

    return (reward_for_caging + reward_for_opening) * 5.0, handle_error <= SUCCESS_DISTANCE


@m.rewards
def reward_v1(copy: Copy) -> tuple[float, bool]:
    """Return the v1 reward for fingers at the handle and for opening, and whether the drawer is open."""
    pull_dist = abs(copy.observation[5] - copy.goal.target_pos[1])
    return m.reward_at_object_v1(copy, m.nearness_v1(MAX_DISTANCE, pull_dist)), pull_dist <= SUCCESS_DISTANCE
