"""Reading, writing and calling at raw addresses, from compiled code.

MuJoCo's simulation lives in C structs; the kernel receives the addresses of what it needs as integers.
Functions are called through addresses too, for compiled code that holds a ctypes function is not cacheable.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing import Signature
from numba.extending import intrinsic

_DOUBLE = ir.DoubleType()
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
_Intrinsic = tuple[Signature, Callable[..., Any]]

OBSERVE = types.none
"""What a task's compiled ``observe`` returns; it takes a copy's record."""
REWARD = types.Tuple((types.float64, types.boolean))
"""What a task's compiled ``reward`` returns: the reward and whether the task is solved."""


def _element(builder: ir.IRBuilder, address: ir.Value, index: ir.Value) -> ir.Value:
    return builder.gep(builder.inttoptr(address, _DOUBLE.as_pointer()), [index])


@intrinsic
def load(typing_context: Any, address: Any, index: Any) -> _Intrinsic:
    """Return double number ``index`` of those at ``address``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_element(builder, *arguments))

    return types.float64(types.int64, types.int64), generate


@intrinsic
def store(typing_context: Any, address: Any, index: Any, value: Any) -> _Intrinsic:
    """Write ``value`` as double number ``index`` of those at ``address``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, index, value = arguments
        builder.store(value, _element(builder, address, index))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float64), generate


@intrinsic
def load_int32(typing_context: Any, address: Any) -> _Intrinsic:
    """Return the C int at ``address``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(builder.inttoptr(arguments[0], _INT32.as_pointer()))
        return builder.sext(value, _INT64)

    return types.int64(types.int64), generate


@intrinsic
def call_mujoco(typing_context: Any, function: Any, model: Any, data: Any) -> _Intrinsic:
    """Call the C function ``void (const mjModel*, mjData*)`` at address ``function``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # An address is passed as a pointer is.
        kind = ir.FunctionType(ir.VoidType(), [_INT64, _INT64]).as_pointer()
        function, model, data = arguments
        builder.call(builder.inttoptr(function, kind), [model, data])
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
        pointer = builder.inttoptr(arguments[0], _INT64.as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(_INT64, 1), "monotonic")

    return types.int64(types.int64), generate
