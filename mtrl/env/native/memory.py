"""Reading, writing and calling at raw addresses, from compiled code.

MuJoCo's simulation lives in C structs; the kernel receives the addresses of what it needs as integers.
Functions are called through addresses too, for compiled code that holds a ctypes function is not cacheable.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core.typing import Signature
from numba.extending import intrinsic
from numpy.typing import NDArray

_INT64 = ir.IntType(64)
_Intrinsic = tuple[Signature, Callable[..., Any]]

OBSERVE = types.none
"""What a task's compiled ``observe`` returns; it takes a copy's record."""
REWARD = types.Tuple((types.float64, types.boolean))
"""What a task's compiled ``reward`` returns: the reward and whether the task is solved."""


@intrinsic
def pointer(typing_context: Any, address: Any) -> _Intrinsic:
    """Return ``address`` as a pointer, for ``numba.carray`` to make an array of."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@njit
def doubles(address: int) -> NDArray[np.float64]:
    """Return the doubles at ``address``, at most a 3x3 matrix, to be read and written."""
    return carray(pointer(address), 9, np.float64)


@njit
def load_int32(address: int) -> int:
    """Return the C int at ``address``."""
    return carray(pointer(address), 1, np.int32)[0]


@njit
def load_int64(address: int) -> int:
    """Return the C pointer, or other int64, at ``address``."""
    return carray(pointer(address), 1, np.int64)[0]


@intrinsic
def call_mujoco(typing_context: Any, function: Any, model: Any, data: Any) -> _Intrinsic:
    """Call the C function ``void (const mjModel*, mjData*)`` at address ``function``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # An address is passed as a pointer is.
        kind = ir.FunctionType(ir.VoidType(), [_INT64, _INT64]).as_pointer()
        builder.call(builder.inttoptr(arguments[0], kind), arguments[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _caller_of(returned: types.Type) -> Callable[..., Any]:
    """Return a function of an address and a copy that calls the task's function at that address with the copy."""

    @intrinsic
    def call(typing_context: Any, function: Any, copy: Any) -> _Intrinsic:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            function, record = arguments
            kind = ir.FunctionType(context.get_value_type(returned), [record.type])
            return builder.call(builder.inttoptr(function, kind.as_pointer()), [record])

        return returned(types.int64, copy), generate

    return call


call_observe, call_reward = _caller_of(OBSERVE), _caller_of(REWARD)


@intrinsic
def take_next(typing_context: Any, counter: Any) -> _Intrinsic:
    """Return the int64 at address ``counter`` and add one to it, as one atomic operation."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _INT64.as_pointer())
        return builder.atomic_rmw("add", place, ir.Constant(_INT64, 1), "monotonic")

    return types.int64(types.int64), generate
