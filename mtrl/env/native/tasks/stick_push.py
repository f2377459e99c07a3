"""stick-push-v3: pick up a stick and push a container with it."""

import ctypes

import numpy as np
from mujoco import MjData
from numba import carray
from numpy.typing import NDArray

from mtrl.env.native import maths as m
from mtrl.env.native.memory import doubles, load_int32, load_int64, pointer
from mtrl.env.native.mujoco_c import struct
from mtrl.env.native.records import Copy
from mtrl.env.native.tasks.stick_pull import show_stick

TARGET_RADIUS = 0.12

_TOUCH = "contact_count contacts forces contact_size geoms_offset force_offset main_object left_pad right_pad"
TOUCH = np.dtype([(name, np.int64) for name in _TOUCH.split()])
"""What tells whether the gripper touches the stick.

Addresses of three fields of an mjData; the size of an mjContact, and where in it are its two geoms and the index of
its force; three geoms.
"""


def touch(data: MjData) -> NDArray[np.void]:
    """Return one record of type ``TOUCH`` for a simulation."""
    layout, contact, start = struct("mjData"), struct("mjContact"), data._address
    fields = [start + getattr(layout, name).offset for name in ("ncon", "contact", "efc_force")]
    offsets = [ctypes.sizeof(contact), contact.geom.offset, contact.efc_address.offset]
    geoms = [data.geom(name).id for name in ("objGeom", "leftpad_geom", "rightpad_geom")]
    return np.array([(*fields, *offsets, *geoms)], TOUCH)


# The stick, where it goes into the container, and what tells whether it is touched.
places = {
    "object": "body stick xpos",
    "object_rotation": "body stick xmat",
    "second_object": "site insertion xpos",
    "touch": touch,
}


@m.observes
def observe(copy: Copy) -> None:
    """Return position and rotation of the stick, and a position in the container."""
    show_stick(copy, (0.0, 0.09, 0.0))


@m.compiled
def _touching(copy: Copy) -> bool:
    """Tell whether both pads press on the stick."""
    touch = carray(pointer(copy.places.touch), 1, TOUCH)[0]
    left, right = 0.0, 0.0
    for i in range(load_int32(touch.contact_count)):
        contact = load_int64(touch.contacts) + i * touch.contact_size
        geoms = contact + touch.geoms_offset
        one, other = load_int32(geoms), load_int32(geoms + 4)
        if touch.main_object not in (one, other):
            continue
        # Without a force is a contact in the gap between geoms, and these models have no gaps.
        index = load_int32(contact + touch.force_offset)
        force = doubles(load_int64(touch.forces) + 8 * index)[0] if index >= 0 else 0.0
        if touch.left_pad in (one, other):
            left += force
        if touch.right_pad in (one, other):
            right += force
    return left > 0.0 and right > 0.0


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
    return reward, there and lifted and _touching(copy)
