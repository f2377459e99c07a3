"""Nested state as one JSON file and one ``.npz``, read back without executing or unpickling anything."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ARRAY, _SCALAR = "__array__", "__scalar__"
_LARGEST_JSON = 64 * 2**20
"""Bytes of a JSON file beyond which it is certainly no state of a run."""


class DamagedError(ValueError):
    """A file of a checkpoint that cannot be what was written; the message says why."""


def write_values(json_path: Path, npz_path: Path, values: Mapping[str, Any]) -> None:
    """Write nested dicts and lists of plain values and numpy arrays and scalars; tuples come back as lists.

    Raises:
        TypeError: There is something else among them.
    """
    arrays: dict[str, NDArray] = {}
    plain = _split(values, arrays)
    json_path.write_text(json.dumps(plain))
    np.savez(npz_path, **arrays)


def read_values(json_path: Path, npz_path: Path) -> dict[str, Any]:
    """Return what ``write_values`` wrote.

    Raises:
        DamagedError: The files are something else.
    """
    plain, arrays = read_json(json_path), read_arrays(npz_path)
    try:
        return _join(plain, arrays)
    except (KeyError, AttributeError, TypeError) as error:
        raise DamagedError(
            f"{json_path.name} and {npz_path.name} do not belong together ({error})"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the table in a JSON file.

    Raises:
        DamagedError: It is missing, too long, or holds something else.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise DamagedError(f"{path.name} is too long")
        content = json.loads(path.read_text())
    except OSError as error:
        raise DamagedError(f"{path.name} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path.name} is not JSON") from error
    if not isinstance(content, dict):
        raise DamagedError(f"{path.name} holds no table of values")
    return content


def read_arrays(path: Path) -> dict[str, NDArray]:
    """Return the arrays of an uncompressed ``.npz``; their sizes are checked before they are allocated.

    Raises:
        DamagedError: The file is something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in stored_entries(archive, path.name, path.stat().st_size):
                with archive.open(entry) as file:
                    _check_header(file, entry)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except DamagedError:
        raise
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedError(f"{path.name} cannot be read ({error})") from error


def stored_entries(archive: zipfile.ZipFile, name: str, size: int) -> list[zipfile.ZipInfo]:
    """Return the entries of a zip, which take no more memory than the file does.

    Args:
        archive: The zip.
        name: What it is called.
        size: Its bytes.

    Raises:
        DamagedError: One is compressed, or they claim to be larger than the file.
    """
    entries = archive.infolist()
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if not stored or sum(entry.file_size for entry in entries) > size:
        raise DamagedError(f"{name} is compressed, which no checkpoint is")
    return entries


def _check_header(file: Any, entry: zipfile.ZipInfo) -> None:
    if np.lib.format.read_magic(file) != (1, 0):
        raise DamagedError(f"{entry.filename} has an unknown header")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise DamagedError(f"{entry.filename} holds Python objects, which are never read")
    size = dtype.itemsize
    for length in shape:
        size *= length
    if size > entry.file_size:
        raise DamagedError(f"{entry.filename} claims {shape} but holds {entry.file_size} bytes")


def _split(value: Any, arrays: dict[str, NDArray]) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        name = f"a{len(arrays)}"
        arrays[name] = np.asarray(value)
        if arrays[name].dtype.hasobject:
            raise TypeError("an array of Python objects cannot be saved")
        return {_ARRAY if isinstance(value, np.ndarray) else _SCALAR: name}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value) or value.keys() & {_ARRAY, _SCALAR}:
            raise TypeError(f"a state's keys must be words of its own, not {list(value)}")
        return {key: _split(item, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_split(item, arrays) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot be saved: a state holds numbers, words and arrays")


def _join(value: Any, arrays: Mapping[str, NDArray]) -> Any:
    if isinstance(value, dict):
        if _ARRAY in value:
            return arrays[value[_ARRAY]]
        if _SCALAR in value:
            return arrays[value[_SCALAR]][()]
        return {key: _join(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_join(item, arrays) for item in value]
    return value
