"""stick-pull-v3: put a stick through the handle of a container and pull it."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.05
SUCCESS_RADIUS = 0.12

# Errors in height weigh twice.
_SCALE = (1.0, 1.0, 2.0)
_CONTAINER_FROM_HANDLE = (0.05, 0.0, 0.0)

# The stick, the handle that it goes into, and its end.
places = {
    "object": "body stick xpos",
    "object_rotation": "body stick xmat",
    "second_object": "site insertion xpos",
    "stick_end": "site stick_end xpos",
}


@m.compiled
def show_stick(copy: Copy, from_insertion: m.Vector) -> None:
    """Observe position and rotation of a stick, and a position given as seen from where it is inserted."""
    m.show(copy, m.vector(copy.places.object), m.matrix_quaternion(copy.places.object_rotation))
    m.show(copy, m.plus(m.vector(copy.places.second_object), from_insertion), m.NO_ROTATION, 11)


@m.observes
def observe(copy: Copy) -> None:
    """Return position and rotation of the stick, and the position of the handle."""
    show_stick(copy, (0.0, 0.0, 0.0))


@m.compiled
def _inserted(handle: m.Vector, end_of_stick: m.Vector) -> bool:
    """Tell whether the stick is in the handle."""
    beyond = end_of_stick[0] >= handle[0]
    across, above = abs(end_of_stick[1] - handle[1]), abs(end_of_stick[2] - handle[2])
    return beyond and across <= 0.040 and above <= 0.060


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the stick and pulling with it, and whether the container is at the target."""
    stick, handle, tcp_opened = (
        m.triple(copy.observation, 4),
        m.triple(copy.observation, 11),
        copy.observation[3],
    )
    stick_init, container_init = m.triple(copy.goal.stick_init_pos), m.triple(copy.goal.obj_init_pos)
    container, target = m.plus(handle, _CONTAINER_FROM_HANDLE), m.triple(copy.goal.target_pos)
    tcp_to_stick = m.distance(stick, m.tcp_center(copy))
    handle_to_target = m.distance(handle, target)

    stick_to_container = m.length(m.times(m.minus(stick, container), _SCALE))
    shifted_init = m.plus(container_init, _CONTAINER_FROM_HANDLE)
    stick_margin = m.length(m.times(m.minus(stick_init, shifted_init), _SCALE))
    stick_in_place = m.tolerance(stick_to_container, 0.0, TARGET_RADIUS, stick_margin)
    stick_at_target = m.tolerance(
        m.distance(stick, target), 0.0, TARGET_RADIUS, m.distance(stick_init, target)
    )
    container_in_place = m.tolerance(
        m.distance(container, target), 0.0, TARGET_RADIUS, m.distance(container_init, target)
    )

    inserted = _inserted(handle, m.vector(copy.places.stick_end))
    solved = handle_to_target <= SUCCESS_RADIUS and inserted
    if not (tcp_to_stick < 0.02 and tcp_opened > 0.0 and stick[2] - 0.01 > stick_init[2]):
        object_grasped, single = m.caging_reward(copy, stick, 0.014, 0.05, 0.01)
        return m.hamacher_product(object_grasped, stick_in_place, single), solved
    if solved:
        return 10.0, solved
    reward = 1.0 + m.hamacher_product(1.0, stick_in_place)
    if inserted:
        return reward + 5.0 + 2.0 * stick_at_target + container_in_place, solved
    return reward + 5.0 * stick_in_place, solved
