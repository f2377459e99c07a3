"""What lies where in a run directory, and which saved model a path names. Imports nothing heavy.

::

    run.lock  config.yaml  environment.json  status.json  run.log  metrics.csv  evaluation.csv  timing.csv
    lineage.json                   what the weights began with; only where there is a transfer
    comparison.json                of a transfer with its baseline, where transfer.baseline asks for it
    refused_transition.npz         the transition with a NaN or an infinity that ended the run, if one did
    play.mp4                       the video of python -m mtrl.play
    tensorboard/                   with logging.tensorboard=true
    buffer/seg_<low>_<high>.npz    transitions; written once, shared by checkpoints
    checkpoints/step_<n>/          model.zip state.json state.npz normaliser.npz score.json manifest.json
    checkpoints/best, stage_<k>/   model.zip normaliser.npz score.json manifest.json
    .bad-*                         what was found damaged
"""

import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mtrl.config.types import Config
from mtrl.errors import ConfigurationError, DamagedError
from mtrl.rundir.read import read_json, section
from mtrl.rundir.write import put_aside, refuse_links, write_json
from mtrl.text import printable

CHECKPOINTS, BUFFER, LINEAGE = "checkpoints", "buffer", "lineage.json"
_FOLDERS = (CHECKPOINTS, BUFFER, "tensorboard")
_FILES = [
    "config.yaml",
    "environment.json",
    "status.json",
    "run.log",
    "metrics.csv",
    "evaluation.csv",
    "timing.csv",
]
_FILES += [LINEAGE, "comparison.json", "refused_transition.npz"]
MODEL, NORMALISER, SCORE, MANIFEST = "model.zip", "normaliser.npz", "score.json", "manifest.json"
"""The files of every saved model; the normaliser only where the run has one. Version 0.1.0 wrote the manifest only in
checkpoints that a run continues from."""
STATE, ARRAYS = "state.json", "state.npz"
"""The further files of a checkpoint that a run continues from."""
_LARGEST = 4 * 2**30
"""Bytes beyond which a file is no model."""
_NO_ZIP = (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, EOFError, LookupError)
BEST, LAST = "best", "last"
"""Which of its models a run directory stands for: the best of its evaluations, or the newest."""


def step_checkpoint(run: Path, step: int) -> Path:
    """Return the checkpoint of an environment step."""
    return run / CHECKPOINTS / f"step_{step}"


def step_checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints that a run can continue from, by rising step."""
    folder = run / CHECKPOINTS
    names = os.listdir(folder) if os.path.isdir(folder) else []
    steps = (name.removeprefix("step_") for name in names if re.fullmatch("step_[0-9]+", name))
    return [folder / f"step_{step}" for step in sorted(steps, key=int)]


def prepare_directory(run: Path) -> None:
    """Make a run directory safe to write to.

    A folder in the place of a file, or a file in that of a folder, is put aside. Raises ConfigurationError for a link.
    """
    refuse_links(run)
    for path in (run / name for name in (*_FOLDERS, *_FILES)):
        if path.exists() and path.is_dir() != (path.name in _FOLDERS):
            put_aside(path, "it is no folder" if path.name in _FOLDERS else "it is a folder")


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the SHA-256 of its own content, by which a flipped bit in it is noticed."""
    content = {name: value for name, value in manifest.items() if name != "seal"}
    return content | {"seal": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def facts_of(file: Path) -> dict[str, Any]:
    """Return what a manifest says of a file."""
    with file.open("rb") as content:
        return {"size": file.stat().st_size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}


def write_manifest(folder: Path, **entries: Any) -> None:
    """Write what is in a folder of a checkpoint, whose other files are written."""
    files = {file.name: facts_of(file) for file in sorted(folder.iterdir())}
    write_json(folder / MANIFEST, sealed({"files": files, **entries}))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what ``write_manifest`` wrote; raise DamagedError if it is something else."""
    content = read_json(folder / MANIFEST)
    if sealed(content) != content or not isinstance(content.get("files"), dict):
        raise DamagedError(f"{MANIFEST} is not what was written")
    return content


def check_files(folder: Path, files: Mapping[str, Any]) -> None:
    """Raise DamagedError if one of the files in a folder is missing or not what a manifest says."""
    for name, facts in files.items():
        file = folder / name
        if file.parent != folder or os.path.islink(file) or not os.path.isfile(file):
            raise DamagedError(f"{printable(name)} is missing")
        # The size first: a hole of many gigabytes takes minutes to read.
        size = facts.get("size") if isinstance(facts, dict) else None
        if file.stat().st_size != size or facts_of(file) != facts:
            raise DamagedError(f"{printable(name)} is not what was written")


class ModelFiles(NamedTuple):
    """A saved model, a zip in stable-baselines3's format, and what is around it; None for what there is not."""

    model: Path
    normaliser: Path | None
    run: Path | None
    """The run directory that it belongs to."""


def find_model(source: str, key: str = "transfer.source=", checkpoint: str = BEST) -> ModelFiles:
    """Return the model that ``source`` names: a run directory, a checkpoint, or a zip.

    Of a run directory it is the ``checkpoint`` "best" or "last", or the other if it lacks that one. ConfigurationError
    says in one sentence, which begins with ``key``, that there is none, or that its file is damaged.
    """
    path, named = Path(source), f"{key}{source}"
    newest, best = reversed(step_checkpoints(path)), [path / CHECKPOINTS / BEST]
    folders = (*newest, *best) if checkpoint == LAST else (*best, *newest)
    places = (path, *(folder / MODEL for folder in (path, *folders)))
    model = next((place for place in places if os.path.isfile(place)), None)
    if model is None:
        if os.path.isdir(path / CHECKPOINTS):
            raise ConfigurationError(f"{named} has no saved model yet: let it train to its first checkpoint")
        problem = "holds no model" if os.path.exists(path) else "does not exist"
        raise ConfigurationError(f"{named} {problem}: name a run directory, a checkpoint, or a model.zip")
    normaliser, run = model.parent / NORMALISER, model.parent.parent.parent
    try:
        listed = model.name == MODEL and (model.parent / MANIFEST).is_file()
        files = read_manifest(model.parent)["files"] if listed else {}
        length = normaliser.stat().st_size / 2**20 if normaliser.is_file() else None
        if (NORMALISER in files and length is None) or (length or 0) > 1:
            why = "is missing" if length is None else f"is {length:,.0f} MiB long, which no normaliser is"
            raise DamagedError(f"{NORMALISER} {why}")
        with zipfile.ZipFile(model) as archive:
            size, entries = model.stat().st_size, archive.infolist()
            packed, unpacked = sum(e.compress_size for e in entries), sum(e.file_size for e in entries)
            # Holes and zeros, which take no room on the disk, take minutes to read.
            if unpacked > min(_LARGEST, 4 * size) or size > packed + 2**20:
                raise DamagedError("it is compressed or empty as no weights are")
            damaged = archive.testzip() is not None
            if damaged or "policy.pth" not in archive.namelist():
                raise DamagedError("it is damaged" if damaged else "it holds no policy")
    except _NO_ZIP as error:
        raise ConfigurationError(
            f"{named} cannot be read ({error}): name an undamaged model.zip that stable-baselines3 or mtrl has saved, "
            "or another checkpoint"
        ) from error
    known = model.name == MODEL and (run / "config.yaml").is_file()
    return ModelFiles(model, normaliser if normaliser.is_file() else None, run if known else None)


def saved_step(files: ModelFiles) -> int | None:
    """Return the environment steps that a model was trained for, None if no file beside it records them.

    Raises ConfigurationError if that file is damaged.
    """
    score = files.model.parent / SCORE
    try:
        step = read_json(score).get("step") if score.is_file() else None
    except DamagedError as error:
        raise ConfigurationError(f"{score.parent}: {error}: name another checkpoint") from error
    return step if isinstance(step, int) else None


def described(source: str) -> str:
    """Return which model ``source`` names and how long it was trained, in words; raise as ``find_model`` does."""
    files = find_model(source)
    step, which = saved_step(files), files.model.parent.name if files.run else files.model.name
    return f"{source}: {which}" + ("" if step is None else f", step {step:,}")


def content(files: ModelFiles) -> str:
    """Return the SHA-256 of the model, and of the normalisation beside it, as hexadecimal digits."""
    digest = hashlib.sha256(files.model.read_bytes())
    if files.normaliser is not None:
        digest.update(files.normaliser.read_bytes())
    return digest.hexdigest()


def source_content(cfg: Config) -> str:
    """Return the content of what ``transfer.source`` names, or raise as ``find_model`` does.

    A run continues without its source: if that is gone, the content is what the newest run from it recorded.
    """
    source = Path(str(cfg.transfer.source))
    if not os.path.exists(source):
        found = (Path(cfg.output) / cfg.experiment).glob(f"*/seed={cfg.seed}/{LINEAGE}")
        for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
            lineage = _json_if_readable(path)
            if lineage.get("named") == str(source.absolute()) and isinstance(lineage.get("sha256"), str):
                return lineage["sha256"]
    return content(find_model(str(cfg.transfer.source)))


def read_lineage(run: Path) -> dict[str, Any] | None:
    """Return what the weights of a run began with, None if they were new or no readable file records it.

    Runs of earlier versions have it in their status alone.
    """
    status = section(_json_if_readable(run / "status.json"), "transfer")
    for found in (_json_if_readable(run / LINEAGE), status):
        if isinstance(found.get("tasks"), list) and isinstance(found.get("origins"), dict):
            return found
    return None


def _json_if_readable(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except DamagedError:
        return {}
