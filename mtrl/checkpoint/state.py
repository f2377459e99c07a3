"""What a run depends on besides weights and transitions: generators, environments, counters, statistics."""

import json
import math
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.env.normalize import TaskNormalize
from mtrl.errors import DamagedError
from mtrl.rundir.read import read_json

_ARRAY, _SCALAR = "__array__", "__scalar__"


def write_values(json_path: Path, npz_path: Path, values: Mapping[str, Any]) -> None:
    """Write nested dicts and lists of plain values, arrays and scalars, else raise TypeError; tuples become lists."""
    arrays: dict[str, NDArray] = {}
    json_path.write_text(json.dumps(_split(values, arrays)))
    np.savez(npz_path, **arrays)


def read_values(json_path: Path, npz_path: Path) -> dict[str, Any]:
    """Return what ``write_values`` wrote; raise DamagedError if the files are something else."""
    plain, arrays = read_json(json_path), read_arrays(npz_path)
    try:
        return _join(plain, arrays)
    except (KeyError, AttributeError, TypeError) as error:
        raise DamagedError(
            f"{json_path.name} and {npz_path.name} do not belong together ({error})"
        ) from error


def read_arrays(path: Path) -> dict[str, NDArray]:
    """Return the arrays of an uncompressed ``.npz``, or raise DamagedError before a false size is allocated."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in stored_entries(archive, path.name, path.stat().st_size):
                with archive.open(entry) as file:
                    if np.lib.format.read_magic(file) != (1, 0):
                        raise DamagedError(f"{entry.filename} has an unknown header")
                    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                if dtype.hasobject:
                    raise DamagedError(f"{entry.filename} holds Python objects, which are never read")
                if math.prod((dtype.itemsize, *shape)) > entry.file_size:
                    raise DamagedError(f"{entry.filename} claims {shape} but holds {entry.file_size} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedError(f"{path.name} cannot be read ({error})") from error


def stored_entries(archive: zipfile.ZipFile, name: str, size: int) -> list[zipfile.ZipInfo]:
    """Return the entries of a zip called ``name``; raise DamagedError if they take more memory than its ``size``."""
    entries = archive.infolist()
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if not stored or sum(entry.file_size for entry in entries) > size:
        raise DamagedError(f"{name} is compressed, which no checkpoint is")
    return entries


def _split(value: Any, arrays: dict[str, NDArray]) -> Any:
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        name = f"a{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {_ARRAY if isinstance(value, np.ndarray) else _SCALAR: name}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value) or value.keys() & {_ARRAY, _SCALAR}:
            raise TypeError(f"a state's keys must be words of its own, not {list(value)}")
        return {key: _split(item, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_split(item, arrays) for item in value]
    if value is not None and not isinstance(value, bool | int | float | str):
        raise TypeError(f"{type(value).__name__} cannot be saved: a state holds numbers, words, their arrays")
    return value


def _join(value: Any, arrays: Mapping[str, NDArray]) -> Any:
    if isinstance(value, dict):
        if value.keys() & {_ARRAY, _SCALAR}:
            return arrays[value[_ARRAY]] if _ARRAY in value else arrays[value[_SCALAR]][()]
        return {key: _join(item, arrays) for key, item in value.items()}
    return [_join(item, arrays) for item in value] if isinstance(value, list) else value


_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")
_LAST = ("_last_obs", "_last_original_obs", "_last_episode_starts")


def agent_state(model: OffPolicyAlgorithm) -> dict[str, Any]:
    """Return the state of the agent at the start of a rollout, without its weights and its transitions.

    stable-baselines3's own ``save`` holds none of it and its ``load`` seeds every generator again.
    """
    state: dict[str, Any] = {
        "counters": {name: getattr(model, name) for name in _COUNTERS},
        "last": {name: getattr(model, name) for name in _LAST},
        "replay": model.replay_buffer.get_state(),
        "copies": model.env.env_method("get_state"),
        # What the learner logged since the last row is part of the next row.
        "logged": {name: float(value) for name, value in model.logger.name_to_value.items()},
        # Correlated action noise remembers its last value.
        "noise": [getattr(part, "noise_prev", None) for part in _noises(model)],
    }
    normalizer = model.get_vec_normalize_env()
    if isinstance(normalizer, TaskNormalize):
        state["normaliser"] = normalizer.statistics()
    name, keys, *position = np.random.get_state()
    version, words, gauss = random.getstate()
    state["generators"] = {
        "numpy": {"name": name, "keys": keys, "at": position},
        "python": {"version": version, "words": np.array(words, dtype=np.uint64), "gauss": gauss},
        "torch": torch.get_rng_state().numpy(),
        "action_space": model.action_space.np_random.bit_generator.state,
    }
    if model.device.type == "cuda":
        state["generators"]["cuda"] = torch.cuda.get_rng_state(model.device).numpy()
    return state


def set_agent_state(model: OffPolicyAlgorithm, state: Mapping[str, Any]) -> None:
    """Continue where ``agent_state`` was called, with a new agent whose replay buffer is filled."""
    for name, value in (*state["counters"].items(), *state["last"].items()):
        setattr(model, name, value)
    model.replay_buffer.set_state(state["replay"])
    for copy, copy_state in enumerate(state["copies"]):
        model.env.env_method("set_state", copy_state, indices=[copy])
    for name, value in state["logged"].items():
        model.logger.record(name, int(value) if value.is_integer() and "n_updates" in name else value)
    for part, value in zip(_noises(model), state["noise"], strict=False):
        if value is not None:
            part.noise_prev = value
    normalizer = model.get_vec_normalize_env()
    if isinstance(normalizer, TaskNormalize):
        normalizer.restore(state["normaliser"])
    # Last, for nothing may draw a number afterwards.
    generators = state["generators"]
    numpy_state, python_state = generators["numpy"], generators["python"]
    np.random.set_state((numpy_state["name"], numpy_state["keys"], *numpy_state["at"]))
    words = tuple(int(word) for word in python_state["words"])
    random.setstate((python_state["version"], words, python_state["gauss"]))
    torch.set_rng_state(torch.from_numpy(np.array(generators["torch"])))
    model.action_space.np_random.bit_generator.state = generators["action_space"]
    if model.device.type == "cuda" and "cuda" in generators:
        torch.cuda.set_rng_state(torch.from_numpy(np.array(generators["cuda"])), model.device)


def _noises(model: OffPolicyAlgorithm) -> list[Any]:
    return getattr(model.action_noise, "noises", [model.action_noise])
