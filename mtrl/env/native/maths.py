"""The parts that Meta-World's rewards are made of (``metaworld.utils.reward_utils`` and ``SawyerXYZEnv``)."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numba import cfunc, from_dtype, njit
from numpy.typing import NDArray

from mtrl.env.native.memory import OBSERVE, REWARD, doubles
from mtrl.env.native.records import COPY, Copy

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]

NO_ROTATION = (0.0, 0.0, 0.0, 0.0)
"""What some tasks observe in place of a rotation."""

compiled = njit(error_model="numpy")
"""Compiles a function of the step; a division by zero gives infinity as in C, and never an exception."""


def observes(function: Callable[[Copy], None]) -> Any:
    """Compile a task's ``observe``, to be called at its address by the step."""
    return cfunc(OBSERVE(from_dtype(COPY)), cache=True, error_model="numpy")(function)


class rewards:
    """Makes a task's reward callable at its ``address`` by the step, compiled when that is first asked for.

    A run compiles the version of the reward that it trains on, and not the other one.
    """

    def __init__(self, function: Callable[[Copy], tuple[float, bool]]) -> None:
        self._function = function

    @cached_property
    def address(self) -> int:
        """Address of the compiled function, which is kept, for the code goes with it."""
        self._compiled = cfunc(REWARD(from_dtype(COPY)), cache=True, error_model="numpy")(self._function)
        return self._compiled.address


@compiled
def triple(values: NDArray[np.float64], start: int = 0) -> Vector:
    """Return three values of an array, from ``start`` on."""
    return values[start], values[start + 1], values[start + 2]


@compiled
def vector(address: int) -> Vector:
    """Return the three doubles at ``address``."""
    return triple(doubles(address))


@compiled
def plus(a: Vector, b: Vector) -> Vector:
    """Return a + b."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@compiled
def minus(a: Vector, b: Vector) -> Vector:
    """Return a - b."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@compiled
def times(a: Vector, b: Vector) -> Vector:
    """Return the products of the components."""
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]


@compiled
def length(a: Vector) -> float:
    """Return the Euclidean norm."""
    return math.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2])


@compiled
def distance(a: Vector, b: Vector) -> float:
    """Return the Euclidean distance of two points."""
    return length(minus(a, b))


@compiled
def distance_in_plane(a: Vector, b: Vector, first: int, second: int) -> float:
    """Return the distance of two points as seen in the plane of two axes."""
    return math.sqrt((a[first] - b[first]) ** 2 + (a[second] - b[second]) ** 2)


@compiled
def rounded(value: float, single: bool) -> float:
    """Return ``value`` rounded to single precision where ``single``.

    Meta-World computes in float64, except that numpy (2 and later) lets a float32 action pull Python floats
    down to float32. To round operands and result of a basic operation is the same as computing it in float32.
    """
    return np.float64(np.float32(value)) if single else value


@compiled
def stored_quaternion(address: int) -> Quaternion:
    """Return the quaternion at ``address``, in MuJoCo's order (w, x, y, z)."""
    stored = doubles(address)
    return stored[0], stored[1], stored[2], stored[3]


@compiled
def matrix_quaternion(address: int) -> Quaternion:
    """Return the quaternion (x, y, z, w) of the rotation matrix at ``address``.

    scipy's ``Rotation.from_matrix``, which is Markley's method (2008, doi:10.2514/1.31730).
    """
    matrix = doubles(address)
    m00, m01, m02 = triple(matrix, 0)
    m10, m11, m12 = triple(matrix, 3)
    m20, m21, m22 = triple(matrix, 6)
    trace = m00 + m11 + m22
    if trace > m00 and trace > m11 and trace > m22:
        x, y, z, w = m21 - m12, m02 - m20, m10 - m01, 1.0 + trace
    elif m00 >= m11 and m00 >= m22:
        x, y, z, w = 1.0 - trace + 2.0 * m00, m10 + m01, m20 + m02, m21 - m12
    elif m11 >= m22:
        x, y, z, w = m10 + m01, 1.0 - trace + 2.0 * m11, m21 + m12, m02 - m20
    else:
        x, y, z, w = m20 + m02, m21 + m12, 1.0 - trace + 2.0 * m22, m10 - m01
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    return x / norm, y / norm, z / norm, w / norm


@compiled
def show(copy: Copy, position: Vector, quaternion: Quaternion, start: int = 4) -> None:
    """Write position and rotation of the task's object, or from 11 on of its second one, into the frame observed."""
    for axis in range(3):
        copy.frame[start + axis] = position[axis]
    for element in range(4):
        copy.frame[start + 3 + element] = quaternion[element]


@observes
def position_and_matrix(copy: Copy) -> None:
    """Observe the object's position and the rotation that a matrix in the simulation tells."""
    show(copy, vector(copy.places.object), matrix_quaternion(copy.places.object_rotation))


@observes
def position_and_quaternion(copy: Copy) -> None:
    """Observe the object's position and the rotation that a quaternion in the simulation tells."""
    show(copy, vector(copy.places.object), stored_quaternion(copy.places.object_rotation))


@observes
def position_alone(copy: Copy) -> None:
    """Observe the object's position."""
    show(copy, vector(copy.places.object), NO_ROTATION)


@compiled
def show_body(copy: Copy, offset: Vector) -> None:
    """Observe a point that lies at ``offset`` from the object's body, and the body's quaternion."""
    position = plus(vector(copy.places.object), offset)
    show(copy, position, stored_quaternion(copy.places.object_rotation))


@compiled
def tcp_center(copy: Copy) -> Vector:
    """Return the centre between the two fingers, the tool centre point."""
    both = plus(vector(copy.places.right_finger), vector(copy.places.left_finger))
    return both[0] / 2.0, both[1] / 2.0, both[2] / 2.0


_LONG_TAIL_SCALE = math.sqrt(1 / 0.1 - 1)
_GAUSSIAN_SCALE = math.sqrt(-2 * math.log(0.1))


@compiled
def _outside(x: float, lower: float, upper: float, margin: float) -> float:
    """Return how far ``x`` is outside of the bounds, in margins.

    A negative margin, which Meta-World refuses with an exception, gives NaN.
    """
    if lower <= x <= upper:
        return 0.0
    if margin < 0.0:
        return np.nan
    return (lower - x if x < lower else x - upper) / margin


@compiled
def tolerance(x: float, lower: float, upper: float, margin: float) -> float:
    """Return 1 inside the bounds, falling to 0.1 at ``margin`` outside of them with a long tail."""
    return 1.0 / ((_outside(x, lower, upper, margin) * _LONG_TAIL_SCALE) ** 2 + 1.0)


@compiled
def gaussian_tolerance(x: float, lower: float, upper: float, margin: float) -> float:
    """Return 1 inside the bounds, falling to 0.1 at ``margin`` outside of them like a Gaussian."""
    return math.exp(-0.5 * (_outside(x, lower, upper, margin) * _GAUSSIAN_SCALE) ** 2)


@compiled
def hamacher_product(a: float, b: float, single: bool = False) -> float:
    """Return the Hamacher product of two numbers in [0, 1], a soft "and"."""
    a, b = rounded(a, single), rounded(b, single)
    product = rounded(a * b, single)
    denominator = rounded(rounded(a + b, single) - product, single)
    return rounded(product / denominator, single) if denominator > 0.0 else 0.0


@compiled
def funnel(radius: float, spout: float, slope: float, height: float) -> float:
    """Return the height of a funnel that rises with the logarithm of the distance to its spout, and is 0 inside."""
    return slope * math.log(radius - spout) + height if radius > spout else 0.0


@compiled
def turned_a_quarter(copy: Copy, margin: float) -> float:
    """Return how near the object's rotation is to a quarter turn about the vertical, as Meta-World approximates it."""
    w, x, y, z = copy.observation[7], copy.observation[8], copy.observation[9], copy.observation[10]
    error = math.sqrt((w - 0.707) ** 2 + x**2 + y**2 + (z - 0.707) ** 2)
    return max(1.0 - error / margin, 0.0)


@compiled
def inside_prism(point: Vector, zero: Vector, one: Vector) -> bool:
    """Tell whether ``point`` lies in the box between two opposite corners."""
    inside = True
    for axis in range(3):
        inside &= min(zero[axis], one[axis]) <= point[axis] <= max(zero[axis], one[axis])
    return inside


@compiled
def prism_tolerance(point: Vector, zero: Vector, one: Vector) -> float:
    """Return 1 outside of the box between two corners; inside, rising from 0 at ``zero`` to 1 at ``one``."""
    if not inside_prism(point, zero, one):
        return 1.0
    along, whole = minus(point, zero), minus(one, zero)
    return along[0] / whole[0] * (along[1] / whole[1]) * (along[2] / whole[2])


@compiled
def gripper_closed(copy: Copy, desired_effort: float = 1.0) -> tuple[float, bool]:
    """Return the part of the desired closing effort, within [0, 1], and whether numpy holds it in single precision.

    It does where the action is float32 and not clamped: ``min(max(0, x), 1)`` returns one of its arguments.
    """
    effort, desired = copy.action[3], rounded(desired_effort, copy.single)
    if effort <= 0.0:
        return 0.0, False
    if effort > desired:
        return 1.0, False
    return rounded(effort / desired, copy.single), copy.single


@compiled
def caging_xz(copy: Copy, obj: Vector, xz_thresh: float) -> float:
    """Return how near the fingers are to the object as seen from the side, in [0, 1]."""
    margin = distance_in_plane(triple(copy.goal.obj_init_pos), triple(copy.goal.init_tcp), 0, 2) - xz_thresh
    return tolerance(distance_in_plane(tcp_center(copy), obj, 0, 2), 0.0, xz_thresh, margin)


@compiled
def grip(copy: Copy, caging: float, desired_effort: float = 1.0) -> tuple[float, bool]:
    """Return caging with a closing grip, and whether it is in single precision."""
    gripping, single = gripper_closed(copy, desired_effort)
    if not caging > 0.97:
        gripping, single = 0.0, False
    return hamacher_product(caging, gripping, single), single


@compiled
def mean(a: float, b: float, single: bool) -> float:
    """Return the mean of two numbers."""
    return rounded(rounded(a + rounded(b, single), single) / 2.0, single)


@compiled
def cage_and_grip(copy: Copy, caging: float, desired_effort: float = 1.0) -> tuple[float, bool]:
    """Return the mean of caging and of caging with a closing grip, and whether it is in single precision."""
    both, single = grip(copy, caging, desired_effort)
    return mean(both, caging, single), single


@compiled
def caging_since(
    copy: Copy,
    obj: Vector,
    obj_init: Vector,
    obj_radius: float,
    pad_success_thresh: float,
    xz_thresh: float,
) -> float:
    """Return how well the fingers enclose an object that the reset has put at ``obj_init``, in [0, 1]."""
    left_pad_y, right_pad_y = vector(copy.places.left_pad)[1], vector(copy.places.right_pad)[1]
    left_margin = abs(abs(left_pad_y - obj_init[1]) - pad_success_thresh)
    right_margin = abs(abs(right_pad_y - obj_init[1]) - pad_success_thresh)
    left_caging = tolerance(abs(left_pad_y - obj[1]), obj_radius, pad_success_thresh, left_margin)
    right_caging = tolerance(abs(right_pad_y - obj[1]), obj_radius, pad_success_thresh, right_margin)
    caging_y = hamacher_product(left_caging, right_caging)
    margin = distance_in_plane(obj_init, triple(copy.goal.init_tcp), 0, 2) - xz_thresh
    near = tolerance(distance_in_plane(tcp_center(copy), obj, 0, 2), 0.0, xz_thresh, margin)
    return hamacher_product(caging_y, near)


@compiled
def caging(copy: Copy, obj: Vector, obj_radius: float, pad_success_thresh: float, xz_thresh: float) -> float:
    """Return how well the fingers enclose the object, in [0, 1]."""
    return caging_since(copy, obj, triple(copy.goal.obj_init_pos), obj_radius, pad_success_thresh, xz_thresh)


@compiled
def caging_reward(
    copy: Copy,
    obj: Vector,
    obj_radius: float,
    pad_success_thresh: float,
    xz_thresh: float,
    desired_effort: float = 1.0,
) -> tuple[float, bool]:
    """Return ``SawyerXYZEnv._gripper_caging_reward`` of high density, and whether in single precision.

    That of no density is ``grip`` of ``caging``.
    """
    return cage_and_grip(copy, caging(copy, obj, obj_radius, pad_success_thresh, xz_thresh), desired_effort)


@compiled
def reach_and_caging_reward(
    copy: Copy,
    obj: Vector,
    obj_radius: float,
    pad_success_thresh: float,
    object_reach_radius: float,
    xz_thresh: float,
    desired_effort: float = 1.0,
) -> tuple[float, bool]:
    """Return ``SawyerXYZEnv._gripper_caging_reward`` of medium density, and whether in single precision."""
    tcp_to_obj_init = distance(triple(copy.goal.obj_init_pos), triple(copy.goal.init_tcp))
    reach_margin = abs(tcp_to_obj_init - object_reach_radius)
    reach = tolerance(distance(obj, tcp_center(copy)), 0.0, object_reach_radius, reach_margin)
    caged = caging(copy, obj, obj_radius, pad_success_thresh, xz_thresh)
    both, single = grip(copy, caged, desired_effort)
    return mean(both, reach, single), single


_PAD_SUCCESS_MARGIN = 0.05


@compiled
def caging_between_pads(
    copy: Copy, obj: Vector, obj_radius: float, furthest: float = _PAD_SUCCESS_MARGIN
) -> float:
    """Return how well the object is between the pads, in [0, 1], for tasks with a caging reward of their own.

    Its margins come from ``init_left_pad`` and ``init_right_pad``, which in Meta-World are views of the
    simulation and so follow the pads.
    """
    left_pad_y, right_pad_y = vector(copy.places.left_pad)[1], vector(copy.places.right_pad)[1]
    left_margin = abs(abs(obj[1] - left_pad_y) - _PAD_SUCCESS_MARGIN)
    right_margin = abs(abs(obj[1] - right_pad_y) - _PAD_SUCCESS_MARGIN)
    left = tolerance(left_pad_y - obj[1], obj_radius, furthest, left_margin)
    right = tolerance(obj[1] - right_pad_y, obj_radius, furthest, right_margin)
    return hamacher_product(left, right)


@compiled
def nearness_v1(furthest: float, remaining: float) -> float:
    """Return how near an object is to its target, in the v1 reward: up to 1000 per metre of ``furthest``, and 2000."""
    near = math.exp(-(remaining**2) / 0.01) + math.exp(-(remaining**2) / 0.001)
    return 1000.0 * (furthest - remaining) + 1000.0 * near


@compiled
def reward_at_object_v1(copy: Copy, nearness: float) -> float:
    """Return the v1 reward of tasks whose object counts while the fingers are at it."""
    reach_dist = distance(triple(copy.observation, 4), tcp_center(copy))
    return -reach_dist + (max(nearness, 0.0) if reach_dist < 0.05 else 0.0)


@compiled
def reward_of_carrying_v1(
    copy: Copy, placing_dist: float, carrying_dist: float, height_weight: float
) -> float:
    """Return the v1 reward of tasks that reach, grasp, lift and carry an object.

    ``placing_dist`` to the target tells whether it has been dropped, ``carrying_dist`` is rewarded, ``height_weight``
    is that of the fingers' height while they are not above the object.
    """
    obj, tcp = triple(copy.observation, 4), tcp_center(copy)
    reach_dist, above = distance(obj, tcp), distance_in_plane(obj, tcp, 0, 1)
    reward = -reach_dist
    if reach_dist < 0.05:
        reward += rounded(max(copy.action[3], 0.0) / 50.0, copy.single)
    elif above >= 0.05:
        reward = -above - height_weight * abs(tcp[2] - copy.goal.init_tcp[2])

    off_the_table = copy.goal.obj_height + 0.005
    held = not (obj[2] < off_the_table and placing_dist > 0.02 and reach_dist > 0.02)
    lifted = held and obj[2] >= copy.goal.height_target - 0.01
    if lifted:
        reward += 100.0 * copy.goal.height_target
    elif reach_dist < 0.1 and obj[2] > off_the_table:
        reward += 100.0 * min(copy.goal.height_target, obj[2])
    if lifted and reach_dist < 0.1:
        reward += max(nearness_v1(copy.goal.max_placing_dist, carrying_dist), 0.0)
    return reward
