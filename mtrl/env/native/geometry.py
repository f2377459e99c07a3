"""Vectors of three doubles, with numpy's and scipy's order of operations so that the last bit agrees."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mtrl.env.native.memory import load

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]

compiled = njit(error_model="numpy")
"""Compiles a function of the step; a division by zero gives infinity as in C, and never an exception."""


@compiled
def vector(address: int) -> Vector:
    """Return the three doubles at ``address``."""
    return load(address, 0), load(address, 1), load(address, 2)


@compiled
def triple(values: NDArray[np.float64], start: int = 0) -> Vector:
    """Return three values of an array, from ``start`` on."""
    return values[start], values[start + 1], values[start + 2]


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
    return load(address, 0), load(address, 1), load(address, 2), load(address, 3)


@compiled
def no_quaternion() -> Quaternion:
    """Return the zeros that some tasks observe in place of a rotation."""
    return 0.0, 0.0, 0.0, 0.0


@compiled
def matrix_quaternion(address: int) -> Quaternion:
    """Return the quaternion (x, y, z, w) of the rotation matrix at ``address``.

    scipy's ``Rotation.from_matrix``, which is Markley's method (2008, doi:10.2514/1.31730).
    """
    m00, m01, m02 = load(address, 0), load(address, 1), load(address, 2)
    m10, m11, m12 = load(address, 3), load(address, 4), load(address, 5)
    m20, m21, m22 = load(address, 6), load(address, 7), load(address, 8)
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
