"""stick-push-v3: pick up a stick and push a container with it."""

from mujoco import MjData

from mtrl.env.native import maths as m
from mtrl.env.native import mujoco_c
from mtrl.env.native.records import Copy, Places

TARGET_RADIUS = 0.12


def places(data: MjData) -> Places:
    """Return the stick, where it goes into the container, and what tells whether it is touched."""
    stick = data.body("stick")
    return {
        "object": stick.xpos,
        "object_rotation": stick.xmat,
        "second_object": data.site("insertion").xpos,
        "touch": mujoco_c.touch(data),
    }


@m.observes
def observe(copy: Copy) -> None:
    """Return position and rotation of the stick, and a position in the container."""
    m.show_stick(copy, (0.0, 0.09, 0.0))


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for grasping the stick and pushing with it, and whether that pushed the container there."""
    stick = m.plus(m.triple(copy.observation, 4), (0.015, 0.0, 0.0))
    container, tcp_opened = m.triple(copy.observation, 11), copy.observation[3]
    stick_init, target = m.triple(copy.goal.stick_init_pos), m.triple(copy.goal.target_pos)
    tcp_to_stick = m.distance(stick, m.tcp_center(copy))
    stick_margin = m.distance(stick_init, target) - TARGET_RADIUS
    stick_in_place = m.tolerance(m.distance(stick, target), 0.0, TARGET_RADIUS, stick_margin)
    container_to_target = m.distance(container, target)
    container_margin = m.distance(m.triple(copy.goal.obj_init_pos), target) - TARGET_RADIUS
    container_in_place = m.tolerance(container_to_target, 0.0, TARGET_RADIUS, container_margin)

    reward, _ = m.cage_and_grip(copy, m.caging_since(copy, stick, stick_init, 0.04, 0.05, 0.01))
    lifted = tcp_opened > 0.0 and stick[2] - 0.01 > stick_init[2]
    there = container_to_target <= TARGET_RADIUS
    if lifted and tcp_to_stick < 0.02:
        reward = 10.0 if there else 2.0 + 5.0 * stick_in_place + 3.0 * container_in_place
    return reward, there and lifted and m.touching_main_object(copy)
