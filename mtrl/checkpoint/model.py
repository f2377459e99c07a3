"""A model on disk: ``model.zip`` in stable-baselines3's format, and the normaliser where there is one."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file, recursive_getattr

from mtrl.algo.sac import check_finite
from mtrl.checkpoint.state import read_arrays, stored_entries
from mtrl.env.normalize import TaskNormalize
from mtrl.errors import DamagedError
from mtrl.rundir.models import MODEL, NORMALISER, SCORE, write_manifest
from mtrl.rundir.write import new_directory, write_json
from mtrl.tasks import OBSERVATION_SIZE

UNREADABLE = (
    *(ValueError, RuntimeError, KeyError, TypeError, OSError, EOFError, AttributeError, ImportError),
    *(pickle.PickleError, zipfile.BadZipFile),
)
"""What reading a damaged or foreign file may raise."""


_Score = tuple[float, float] | None


def save_model(target: Path, model: BaseAlgorithm, *, step: int, score: _Score = None) -> None:
    """Write the model, without its replay buffer, in place of the directory ``target``, in one step.

    It was trained for ``step`` environment steps; ``score`` is the mean success rate and return of its evaluation.

    Raises:
        TrainingNotFiniteError: A weight is NaN or infinite; nothing was written.
    """
    check_finite(model)
    with new_directory(target) as folder:
        write_model(folder, model, step=step, score=score)
        write_manifest(folder)


def write_model(folder: Path, model: BaseAlgorithm, step: int, score: _Score = None) -> None:
    """Write the model's files to an existing directory."""
    # Through memory: on a full disk torch's own writer hides the cause.
    content = io.BytesIO()
    model.save(content)
    (folder / MODEL).write_bytes(content.getbuffer())
    normalizer = model.get_vec_normalize_env()
    if isinstance(normalizer, TaskNormalize):
        normalizer.save_statistics(folder / NORMALISER)
    success, mean_return = score or (None, None)
    write_json(folder / SCORE, {"step": step, "success_rate": success, "mean_return": mean_return})


def load_weights(path: Path, model: BaseAlgorithm) -> None:
    """Give ``model`` the weights and optimisers of a ``model.zip``; raise DamagedError if they do not fit."""
    parameters, variables = read_weights(path, model.device)
    try:
        # Adam's step counters come back on the device they had; the rest is copied in place.
        model.set_parameters(parameters, exact_match=True, device=model.device)
        # What set_parameters leaves out: the temperature.
        for name in model._get_torch_save_params()[1]:
            ours, theirs = recursive_getattr(model, name), variables.get(name)
            if ours is None:
                continue
            if theirs.shape != ours.shape:
                raise ValueError(f"{name} has shape {tuple(theirs.shape)} instead of {tuple(ours.shape)}")
            with torch.no_grad():
                ours.copy_(theirs)
    except UNREADABLE as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DamagedError(f"{path.name} does not hold this agent's weights ({first})") from error


def read_weights(
    path: Path, device: torch.device | str = "cpu"
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the ``state_dict`` of a model's policy and optimisers, by name, and the tensors that are in neither.

    Raises:
        DamagedError: The file is no model, or would take more memory than its size. What it pickles is not read.
    """
    try:
        # The tables of tensors are zips of their own.
        with zipfile.ZipFile(path) as archive:
            for entry in stored_entries(archive, path.name, path.stat().st_size):
                if entry.filename.endswith(".pth"):
                    with archive.open(entry) as file, zipfile.ZipFile(file) as table:
                        stored_entries(table, f"{entry.filename} in {path.name}", entry.file_size)
        _, parameters, variables = load_from_zip_file(path, device=device, load_data=False)
    except DamagedError:
        raise
    except UNREADABLE as error:
        # Not in torch's words: they advise to unpickle what cannot be read without.
        raise DamagedError(f"{path.name} holds something else than weights") from error
    tables = [*parameters.values(), *([] if variables is None else [variables])]
    if not all(isinstance(table, dict) and all(isinstance(key, str) for key in table) for table in tables):
        raise DamagedError(f"{path.name} holds no table of weights")
    return parameters, variables or {}


def read_normaliser(path: Path) -> dict[str, NDArray[Any]]:
    """Return what ``TaskNormalize.save_statistics`` has written; raise DamagedError if it is something else."""
    arrays = read_arrays(path)
    names = ["norm_obs", "norm_reward", "clip_obs", "epsilon", "return_mean", "return_var", "return_count"]
    if np.any(arrays.get("norm_obs", False)):
        names += ["observation_count", "observation_mean", "observation_var"]
    for name in names:
        values, ndim = arrays.get(name), int(name in ("observation_mean", "observation_var"))
        known = values is not None and values.dtype.kind in "bfiu" and bool(np.isfinite(values).all())
        if not known or values.ndim != ndim or 1 < values.size < OBSERVATION_SIZE:
            raise DamagedError(f"{path.name} has no {name} as a normaliser has it")
    return arrays
