"""Saved models: a directory with ``model.zip`` in stable-baselines3's format, and the normaliser where there is one."""

import os
import shutil
import uuid
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from mtrl.env.normalize import TaskNormalize
from mtrl.records import write_json

MODEL, NORMALISER, SCORE = "model.zip", "normaliser.npz", "score.json"


def save_model(target: Path, model: BaseAlgorithm, *, step: int, score: tuple[float, float] | None = None) -> None:
    """Write the model to the directory ``target``, in place of what is there, in one step.

    Args:
        target: The checkpoint's directory.
        model: The agent; its replay buffer is not saved.
        step: Environment steps it was trained for.
        score: Mean success rate and mean return of its evaluation, where it has one.
    """
    temporary = target.with_name(f".tmp-{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        model.save(temporary / MODEL)
        normalizer = model.get_vec_normalize_env()
        if isinstance(normalizer, TaskNormalize):
            normalizer.save_statistics(temporary / NORMALISER)
        success, mean_return = score or (None, None)
        write_json(temporary / SCORE, {"step": step, "success_rate": success, "mean_return": mean_return})
        _sync_directory(temporary)
        if target.exists():
            aside = target.with_name(f".old-{uuid.uuid4().hex}")
            target.rename(aside)
            temporary.rename(target)
            shutil.rmtree(aside)
        else:
            temporary.rename(target)
        _sync_directory(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
