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

from mtrl.env.metaworld import FATAL_WARNINGS

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
    libraries = sorted(Path(mujoco.__file__).parent.glob("*mujoco*.so*")) or sorted(
        Path(mujoco.__file__).parent.glob("libmujoco*.dylib")
    )
    if not libraries:
        raise OSError("the mujoco package holds no library")
    library = ctypes.CDLL(str(libraries[0]))
    return tuple(
        ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in ("mj_step", "mj_forward")
    )


def warning_addresses(data: mujoco.MjData) -> list[int]:
    """Return the addresses of the counters (C int) of the fatal warnings."""
    stat = _struct("mjWarningStat")
    first = data._address + _struct("mjData").warning.offset + stat.number.offset
    return [first + int(kind) * ctypes.sizeof(stat) for kind in FATAL_WARNINGS]


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
    try:
        function_addresses()
        layouts = _struct("mjModel"), _struct("mjData")
    except (OSError, AttributeError, KeyError, TypeError) as error:
        return f"MuJoCo {version} lacks a symbol that compiled code calls ({error}): install mujoco 3.3.0"
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><freejoint/><geom size='1'/><site/></body></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    agree = all(
        _same_addresses(source, layout) for source, layout in zip((model, data), layouts, strict=True)
    )
    data.warning[FATAL_WARNINGS[-1]].number = 7
    agree = agree and ctypes.c_int.from_address(warning_addresses(data)[-1]).value == 7
    return None if agree else f"MuJoCo {version} lays out its data unlike it declares: install mujoco 3.3.0"


def _same_addresses(source: Any, layout: type[ctypes.Structure]) -> bool:
    """Tell whether the pointers at the places that ``layout`` gives are those of the arrays of ``source``."""
    seen = layout.from_address(source._address)
    # What is computed into the arena has no fixed address.
    declared = structs.STRUCTS[layout.__name__].fields
    arena = {field.name for field in declared[_first_arena_field(declared) :]}
    compared = 0
    for name, kind in layout._fields_:
        array = getattr(source, name, None)
        if kind is ctypes.c_void_p and name not in arena and isinstance(array, np.ndarray) and array.size:
            if array.ctypes.data != getattr(seen, name):
                return False
            compared += 1
    return compared > 10


def _first_arena_field(fields: Any) -> int:
    names = [field.name for field in fields]
    return names.index("contact") if "contact" in names else len(names)
