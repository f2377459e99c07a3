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
    checkpoints/best, stage_<k>/   model.zip normaliser.npz score.json
"""

import hashlib
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from mtrl.config.types import Config, require
from mtrl.errors import ConfigurationError, DamagedError
from mtrl.rundir.read import read_json, section

CHECKPOINTS, BUFFER, LINEAGE = "checkpoints", "buffer", "lineage.json"
MODEL, NORMALISER, SCORE = "model.zip", "normaliser.npz", "score.json"
"""The files of every saved model; the normaliser only where the run has one."""
STATE, ARRAYS, MANIFEST = "state.json", "state.npz", "manifest.json"
"""The further files of a checkpoint that a run continues from."""
BEST, LAST = "best", "last"
"""Which of its models a run directory stands for: the best of its evaluations, or the newest."""


def step_checkpoint(run: Path, step: int) -> Path:
    """Return the checkpoint of an environment step."""
    return run / CHECKPOINTS / f"step_{step}"


def step_checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints that a run can continue from, by rising step."""
    steps = (path.name.removeprefix("step_") for path in (run / CHECKPOINTS).glob("step_*"))
    return [run / CHECKPOINTS / f"step_{step}" for step in sorted(filter(str.isdecimal, steps), key=int)]


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
    model = next((place for place in places if place.is_file()), None)
    if model is None:
        if (path / CHECKPOINTS).is_dir():
            raise ConfigurationError(f"{named} has no saved model yet: let it train to its first checkpoint")
        problem = "holds no model" if path.exists() else "does not exist"
        raise ConfigurationError(f"{named} {problem}: name a run directory, a checkpoint, or a model.zip")
    try:
        with zipfile.ZipFile(model) as archive:
            damaged = archive.testzip() is not None
            if damaged or "policy.pth" not in archive.namelist():
                what = "is damaged" if damaged else "holds no policy"
                raise ConfigurationError(
                    f"{named} {what}: name a model.zip that stable-baselines3 or mtrl has saved"
                )
    except (zipfile.BadZipFile, OSError) as error:
        raise ConfigurationError(
            f"{named} cannot be read ({error}): name an undamaged model.zip, or another checkpoint"
        ) from error
    normaliser, run = model.parent / NORMALISER, model.parent.parent.parent
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
        size = files.normaliser.stat().st_size / 2**20
        # A hole of many gigabytes takes no room on the disk.
        require(
            size < 1,
            f"{files.normaliser} is {size:,.0f} MiB long, which no normaliser is: name another model",
        )
        digest.update(files.normaliser.read_bytes())
    return digest.hexdigest()


def source_content(cfg: Config) -> str:
    """Return the content of what ``transfer.source`` names, or raise as ``find_model`` does.

    A run continues without its source: if that is gone, the content is what the newest run from it recorded.
    """
    source = Path(str(cfg.transfer.source))
    if not source.exists():
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
    for found in (
        _json_if_readable(run / LINEAGE),
        section(_json_if_readable(run / "status.json"), "transfer"),
    ):
        if isinstance(found.get("tasks"), list) and isinstance(found.get("origins"), dict):
            return found
    return None


def _json_if_readable(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except DamagedError:
        return {}
