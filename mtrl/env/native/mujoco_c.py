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

_C_TYPES = {
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "char": ctypes.c_char,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    "mjtNum": ctypes.c_double,
    "mjtByte": ctypes.c_ubyte,
    "mjtSize": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
    "uintptr_t": ctypes.c_size_t,
    "uint64_t": ctypes.c_uint64,
}


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
        return _struct(declared.name)
    if declared.name.startswith("mjt"):
        return ctypes.c_int
    raise TypeError(f"MuJoCo declares a field of type {declared}, whose size is unknown here")


def _structure(name: str, fields: Any) -> type[ctypes.Structure]:
    members = [(field.name, _c_type(field.type)) for field in fields]
    return type(name, (ctypes.Structure,), {"_fields_": members})


@cache
def _struct(name: str) -> type[ctypes.Structure]:
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
    return tuple(
        ctypes.cast(function, ctypes.c_void_p).value for function in (library.mj_step, library.mj_forward)
    )


class ModelWithOwnPositions:
    """A model whose ``body_pos`` and ``site_pos`` are its own, everything else shared with another model.

    A reset of Meta-World changes nothing else (tested), and a model is 20 MB where this is 10 kB.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        struct = _struct("mjModel")
        self._shared = model
        self.body_pos, self.site_pos = model.body_pos.copy(), model.site_pos.copy()
        self._header = struct.from_buffer_copy(ctypes.string_at(model._address, ctypes.sizeof(struct)))
        self._header.body_pos = self.body_pos.ctypes.data
        self._header.site_pos = self.site_pos.ctypes.data
        self.address = ctypes.addressof(self._header)


@cache
def check() -> str | None:
    """Return why this MuJoCo cannot be called from compiled code, in one sentence, or None."""
    version = mujoco.__version__
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><freejoint/><geom size='1'/><site/></body></worldbody></mujoco>"
    )
    try:
        function_addresses()
        layout = _struct("mjModel")
    except (OSError, AttributeError, KeyError, TypeError) as error:
        return f"MuJoCo {version} lacks a symbol that compiled code calls ({error}): install mujoco 3.3.0"
    # The pointers at the declared places must be those of the package's own arrays.
    header, arrays = layout.from_address(model._address), {}
    for name, kind in layout._fields_:
        array = getattr(model, name, None)
        if kind is ctypes.c_void_p and isinstance(array, np.ndarray) and array.size:
            arrays[name] = array.ctypes.data
    agree = len(arrays) > 10 and all(getattr(header, name) == address for name, address in arrays.items())
    return None if agree else f"MuJoCo {version} lays out its data unlike it declares: install mujoco 3.3.0"
