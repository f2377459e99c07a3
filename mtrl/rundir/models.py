"""Find the model that a transfer starts from, and tell its content. Imports neither torch nor MuJoCo."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrl.config import Config
from mtrl.errors import ConfigurationError
from mtrl.rundir.layout import MODEL, NORMALISER, SCORE, best_model, checkpoints_of, run_of, step_checkpoints
from mtrl.rundir.write import write_json

LINEAGE = "lineage.json"

_LARGEST_FILE = 4 * 2**20
"""Bytes of a file beyond which it is certainly none of these."""


def write_lineage(run: Path, lineage: Mapping[str, Any]) -> None:
    """Write down what the weights of a run began with, in its directory."""
    write_json(run / LINEAGE, lineage)


def read_lineage(run: Path) -> dict[str, Any] | None:
    """Return what the weights of a run began with, None where they were new or nothing readable says.

    Runs of earlier versions have it in their status alone.
    """
    for found in (_table(run / LINEAGE), _table(run / "status.json").get("transfer")):
        if (
            isinstance(found, dict)
            and isinstance(found.get("tasks"), list)
            and isinstance(found.get("origins"), dict)
        ):
            return found
    return None


def recorded_content(experiment: Path, seed: int, source: str) -> str | None:
    """Return the content that ``source`` had when the newest run of an experiment began from it.

    Args:
        experiment: Directory of the experiment's runs.
        seed: Their seed.
        source: What ``transfer.source`` names, which is not there any more.
    """
    named = str(Path(source).absolute())
    paths = sorted(experiment.glob(f"*/seed={seed}/{LINEAGE}"), key=lambda path: path.stat().st_mtime)
    for path in reversed(paths):
        lineage = _table(path)
        if lineage.get("named") == named and isinstance(lineage.get("sha256"), str):
            return lineage["sha256"]
    return None


def _table(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text()) if path.stat().st_size <= _LARGEST_FILE else None
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


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
    elif (path / MODEL).is_file():
        model = path / MODEL
    elif checkpoints_of(path).is_dir():
        model = _checkpoint(path, key, checkpoint) / MODEL
    elif path.exists():
        raise ConfigurationError(
            f"{key}{source} holds no model: name a run directory, a checkpoint, or a model.zip"
        )
    else:
        raise ConfigurationError(
            f"{key}{source} does not exist: name a run directory, a checkpoint, or a model.zip"
        )
    _check_zip(f"{key}{source}", model)
    normaliser, run = model.parent / NORMALISER, run_of(model)
    known = run is not None and (run / "config.yaml").is_file()
    return ModelFiles(model, normaliser if normaliser.is_file() else None, run if known else None)


def _checkpoint(run: Path, key: str, which: str) -> Path:
    newest, best = reversed(step_checkpoints(run)), [best_model(run)]
    # Where a run has not the one, it has the other.
    for path in (*newest, *best) if which == "last" else (*best, *newest):
        if (path / MODEL).is_file():
            return path
    raise ConfigurationError(f"{key}{run} has no saved model yet: let it train to its first checkpoint")


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


def saved_step(files: ModelFiles) -> int | None:
    """Return the environment steps that a model was trained for, None where nothing beside it says.

    Raises:
        ConfigurationError: What says it is damaged.
    """
    score = files.model.parent / SCORE
    if not score.is_file():
        return None
    try:
        step = json.loads(score.read_text(encoding="utf-8")).get("step")
    except (ValueError, RecursionError, AttributeError, OSError) as error:
        raise ConfigurationError(f"{score} cannot be read ({error}): name another checkpoint") from error
    return step if isinstance(step, int) else None


def described(source: str) -> str:
    """Return which model ``source`` names and how long it was trained, as words for a person.

    Raises:
        ConfigurationError: There is none, or what lies around it is damaged.
    """
    files = find_model(source)
    step = saved_step(files)
    which = files.model.parent.name if files.run is not None else files.model.name
    return f"{source}: {which}" + ("" if step is None else f", step {step:,}")


def source_content(cfg: Config) -> str:
    """Return the content of what ``transfer.source`` names.

    A run goes on without its source: where that is gone, the content is what the run recorded as it began.

    Raises:
        ConfigurationError: There is no model there, and no run that began from one.
    """
    source = str(cfg.transfer.source)
    if not Path(source).exists():
        recorded = recorded_content(Path(cfg.output) / cfg.experiment, cfg.seed, source)
        if recorded is not None:
            return recorded
    return content(find_model(source))


def content(files: ModelFiles) -> str:
    """Return the SHA-256 of the model, and of the normalisation beside it, as hexadecimal digits."""
    digest = hashlib.sha256(files.model.read_bytes())
    if files.normaliser is not None:
        digest.update(files.normaliser.read_bytes())
    return digest.hexdigest()
