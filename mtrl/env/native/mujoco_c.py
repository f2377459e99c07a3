"""MuJoCo as C sees it: addresses of its functions, and where its structs keep their fields.

The layout comes from the declarations that the ``mujoco`` package ships (``mujoco.introspect``); ``check``
holds it to what the package's own arrays say.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from mujoco.introspect import ast_nodes, structs
from numpy.typing import NDArray

_C_TYPES = {"int": ctypes.c_int, "unsigned int": ctypes.c_uint, "char": ctypes.c_char}
_C_TYPES |= {"float": ctypes.c_float, "double": ctypes.c_double, "mjtNum": ctypes.c_double}
_C_TYPES |= {"mjtByte": ctypes.c_ubyte, "mjtSize": ctypes.c_int64, "size_t": ctypes.c_size_t}
_C_TYPES |= {"uintptr_t": ctypes.c_size_t, "uint64_t": ctypes.c_uint64}


def _c_type(declared: Any) -> Any:
    if isinstance(declared, ast_nodes.PointerType):
        return ctypes.c_void_p
    if isinstance(declared, ast_nodes.ArrayType):
        element = _c_type(declared.inner_type)
        for extent in reversed(declared.extents):
            element = element * extent
        return element
    if isinstance(declared, ast_nodes.AnonymousStructDecl):
        return _structure("anonymous", declared.fields)
    if declared.name in _C_TYPES:
        return _C_TYPES[declared.name]
    if declared.name in structs.STRUCTS:
        return struct(declared.name)
    if declared.name.startswith("mjt"):
        return ctypes.c_int
    raise TypeError(f"MuJoCo declares a field of type {declared}, whose size is unknown here")


def _structure(name: str, fields: Any) -> type[ctypes.Structure]:
    members = [(field.name, _c_type(field.type)) for field in fields]
    return type(name, (ctypes.Structure,), {"_fields_": members})


@cache
def struct(name: str) -> type[ctypes.Structure]:
    """Return the layout of MuJoCo's struct of this name."""
    return _structure(name, structs.STRUCTS[name].fields)


@cache
def function_addresses() -> tuple[int, int]:
    """Return the addresses of ``mj_step`` and ``mj_forward``.

    Raises:
        OSError, AttributeError: The library or one of the functions is missing.
    """
    folder = Path(mujoco.__file__).parent
    libraries = [*sorted(folder.glob("*mujoco*.so*")), *sorted(folder.glob("libmujoco*.dylib"))]
    if not libraries:
        raise OSError("the mujoco package holds no library")
    library = ctypes.CDLL(str(libraries[0]))
    return tuple(ctypes.cast(each, ctypes.c_void_p).value for each in (library.mj_step, library.mj_forward))


def model_with(model: mujoco.MjModel, **arrays: NDArray[Any]) -> ctypes.Structure:
    """Return a model in which these arrays stand in for its own; it keeps alive neither them nor what it shares."""
    layout = struct("mjModel")
    header = layout.from_buffer_copy(ctypes.string_at(model._address, ctypes.sizeof(layout)))
    for name, array in arrays.items():
        setattr(header, name, array.ctypes.data)
    return header


def _agrees(name: str, owner: Any) -> bool:
    """Tell whether the pointers of a struct at the declared places are those of the package's own arrays."""
    layout = struct(name)
    header, arrays = layout.from_address(owner._address), {}
    for field, kind in layout._fields_:
        # A null pointer, of what this model does not use, may be an array of its full size in Python.
        array = getattr(owner, field, None) if getattr(header, field) else None
        if kind is ctypes.c_void_p and isinstance(array, np.ndarray) and array.size:
            arrays[field] = array.ctypes.data
    return len(arrays) > 10 and all(getattr(header, field) == address for field, address in arrays.items())


@cache
def check() -> str | None:
    """Return why this MuJoCo cannot be called from compiled code, in one sentence, or None."""
    version = mujoco.__version__
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><geom type='plane' size='1 1 1'/>"
        "<body><freejoint/><geom size='1'/><site/></body></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    try:
        function_addresses()
        agree = _agrees("mjModel", model) and _agrees("mjData", data)
        contact, contacts = struct("mjContact"), struct("mjData").from_address(data._address).contact
    except (OSError, AttributeError, KeyError, TypeError) as error:
        return f"MuJoCo {version} lacks a symbol that compiled code calls ({error}): install mujoco 3.3.0"
    geoms, forces = data.contact.geom, data.contact.efc_address
    agree &= geoms.ctypes.data - contacts == contact.geom.offset
    agree &= forces.ctypes.data - contacts == contact.efc_address.offset
    agree &= forces.strides == (ctypes.sizeof(contact),)
    return None if agree else f"MuJoCo {version} lays out its data unlike it declares: install mujoco 3.3.0"
