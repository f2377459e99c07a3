"""Find the model that a transfer starts from, and tell its content. Imports neither torch nor MuJoCo."""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mtrl.config import ConfigurationError

_MODEL, _NORMALISER = "model.zip", "normaliser.npz"

CHECKPOINTS = ("best", "last")
"""Which of its models a run directory stands for: the best of its evaluations, or the newest."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A saved model and what lies around it."""

    model: Path
    """A zip in stable-baselines3's format."""
    normaliser: Path | None
    run: Path | None
    """The run directory that it belongs to; None for a zip of unknown origin."""


def find_model(source: str, key: str = "transfer.source=", checkpoint: str = "best") -> ModelFiles:
    """Return the model that ``source`` names: a run directory (one of its models), a checkpoint, or a zip.

    Args:
        source: Where to look.
        key: What refusals put before it.
        checkpoint: Of a run directory, "best" or "last".

    Raises:
        ConfigurationError: There is none, or its file is damaged, in one sentence.
    """
    path = Path(source)
    if path.is_file():
        model = path
    elif (path / _MODEL).is_file():
        model = path / _MODEL
    elif (path / "checkpoints").is_dir():
        model = _checkpoint(path, key, checkpoint) / _MODEL
    elif path.exists():
        raise ConfigurationError(
            f"{key}{source} holds no model: name a run directory, a checkpoint, or a model.zip"
        )
    else:
        raise ConfigurationError(
            f"{key}{source} does not exist: name a run directory, a checkpoint, or a model.zip"
        )
    _check_zip(f"{key}{source}", model)
    normaliser = model.parent / _NORMALISER
    # <run>/checkpoints/<checkpoint>/model.zip
    run = model.parent.parent.parent if model.name == _MODEL else None
    known = run is not None and (run / "config.yaml").is_file()
    return ModelFiles(model, normaliser if normaliser.is_file() else None, run if known else None)


def _checkpoint(run: Path, key: str, which: str) -> Path:
    checkpoints = run / "checkpoints"
    newest = sorted(checkpoints.glob("step_*"), key=_step, reverse=True)
    best = [checkpoints / "best"]
    # Where a run has not the one, it has the other.
    for path in (*newest, *best) if which == "last" else (*best, *newest):
        if (path / _MODEL).is_file():
            return path
    raise ConfigurationError(f"{key}{run} has no saved model yet: let it train to its first checkpoint")


def _step(path: Path) -> int:
    number = path.name.removeprefix("step_")
    return int(number) if number.isdigit() else -1


def _check_zip(named: str, model: Path) -> None:
    try:
        with zipfile.ZipFile(model) as archive:
            damaged = archive.testzip()
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError) as error:
        raise ConfigurationError(
            f"{named} cannot be read ({error}): name a whole model.zip, or another checkpoint"
        ) from error
    if damaged is not None or "policy.pth" not in names:
        what = "is damaged" if damaged is not None else "holds no policy"
        raise ConfigurationError(f"{named} {what}: name a model.zip that stable-baselines3 or mtrl has saved")


def content(files: ModelFiles) -> str:
    """Return the SHA-256 of the model, and of the normalisation beside it, as hexadecimal digits."""
    digest = hashlib.sha256(files.model.read_bytes())
    if files.normaliser is not None:
        digest.update(files.normaliser.read_bytes())
    return digest.hexdigest()
