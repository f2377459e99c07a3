"""The saved models of runs: where they lie, what they contain, what their weights began with. Imports nothing heavy."""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrl.config.types import Config
from mtrl.errors import ConfigurationError, DamagedError
from mtrl.rundir.layout import MODEL, NORMALISER, SCORE, best_model, checkpoints_of, run_of, step_checkpoints
from mtrl.rundir.read import read_json
from mtrl.rundir.write import write_json

LINEAGE = "lineage.json"
CHECKPOINTS = ("best", "last")
"""Which of its models a run directory stands for: the best of its evaluations, or the newest."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A saved model and the files around it."""

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
        checkpoint: Of a run directory, "best" or "last"; if it lacks that one, the other.

    Raises:
        ConfigurationError: There is none, or its file is damaged, in one sentence.
    """
    path, named = Path(source), f"{key}{source}"
    if path.is_file():
        model = path
    elif (path / MODEL).is_file():
        model = path / MODEL
    elif checkpoints_of(path).is_dir():
        newest, best = reversed(step_checkpoints(path)), [best_model(path)]
        folders = (*newest, *best) if checkpoint == "last" else (*best, *newest)
        models = [folder / MODEL for folder in folders if (folder / MODEL).is_file()]
        if not models:
            raise ConfigurationError(f"{named} has no saved model yet: let it train to its first checkpoint")
        model = models[0]
    else:
        problem = "holds no model" if path.exists() else "does not exist"
        raise ConfigurationError(f"{named} {problem}: name a run directory, a checkpoint, or a model.zip")
    _check_zip(named, model)
    normaliser, run = model.parent / NORMALISER, run_of(model)
    known = run is not None and (run / "config.yaml").is_file()
    return ModelFiles(model, normaliser if normaliser.is_file() else None, run if known else None)


def _check_zip(named: str, model: Path) -> None:
    try:
        with zipfile.ZipFile(model) as archive:
            damaged = archive.testzip()
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError) as error:
        raise ConfigurationError(
            f"{named} cannot be read ({error}): name an undamaged model.zip, or another checkpoint"
        ) from error
    if damaged is not None or "policy.pth" not in names:
        what = "is damaged" if damaged is not None else "holds no policy"
        raise ConfigurationError(f"{named} {what}: name a model.zip that stable-baselines3 or mtrl has saved")


def saved_step(files: ModelFiles) -> int | None:
    """Return the environment steps that a model was trained for, None if no file beside it records them.

    Raises:
        ConfigurationError: The file that records them is damaged.
    """
    score = files.model.parent / SCORE
    if not score.is_file():
        return None
    try:
        step = read_json(score).get("step")
    except DamagedError as error:
        raise ConfigurationError(f"{score.parent}: {error}: name another checkpoint") from error
    return step if isinstance(step, int) else None


def described(source: str) -> str:
    """Return which model ``source`` names and how long it was trained, as words for a person.

    Raises:
        ConfigurationError: There is none, or a file around it is damaged.
    """
    files = find_model(source)
    step = saved_step(files)
    which = files.model.parent.name if files.run is not None else files.model.name
    return f"{source}: {which}" + ("" if step is None else f", step {step:,}")


def content(files: ModelFiles) -> str:
    """Return the SHA-256 of the model, and of the normalisation beside it, as hexadecimal digits."""
    digest = hashlib.sha256(files.model.read_bytes())
    if files.normaliser is not None:
        digest.update(files.normaliser.read_bytes())
    return digest.hexdigest()


def source_content(cfg: Config) -> str:
    """Return the content of what ``transfer.source`` names.

    A run continues without its source: if that is gone, the content is what the newest run from it recorded.

    Raises:
        ConfigurationError: There is no model there, and no run that began from one.
    """
    source = Path(str(cfg.transfer.source))
    if not source.exists():
        found = (Path(cfg.output) / cfg.experiment).glob(f"*/seed={cfg.seed}/{LINEAGE}")
        for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
            lineage = _json_if_readable(path)
            if lineage.get("named") == str(source.absolute()) and isinstance(lineage.get("sha256"), str):
                return lineage["sha256"]
    return content(find_model(str(cfg.transfer.source)))


def write_lineage(run: Path, lineage: Mapping[str, Any]) -> None:
    """Record in the directory of a run what its weights began with."""
    write_json(run / LINEAGE, lineage)


def read_lineage(run: Path) -> dict[str, Any] | None:
    """Return what the weights of a run began with, None if they were new or no readable file records it.

    Runs of earlier versions have it in their status alone.
    """
    for found in (_json_if_readable(run / LINEAGE), _json_if_readable(run / "status.json").get("transfer")):
        known = isinstance(found, dict) and isinstance(found.get("tasks"), list)
        if known and isinstance(found.get("origins"), dict):
            return found
    return None


def _json_if_readable(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except DamagedError:
        return {}
