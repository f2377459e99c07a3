"""The checkpoints that a run has: verified before they are used. Imports nothing heavy.

``mtrl.rundir.models`` says what lies where. Segments hold consecutive transitions of the replay buffer; each is written
once and shared by checkpoints. A manifest, written last, has the size and SHA-256 of every file and segment.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from mtrl.errors import ConfigurationError, DamagedError
from mtrl.rundir import models
from mtrl.rundir.read import section
from mtrl.rundir.write import BAD, put_aside, recover
from mtrl.text import printable

FORMAT = 1
"""Version of what a manifest describes."""


class Segment(NamedTuple):
    """A file with the transitions numbered ``low`` up to but without ``high``."""

    low: int
    high: int
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name, which no manifest can make point elsewhere."""
        return f"seg_{self.low}_{self.high}.npz"


class Checkpoint(NamedTuple):
    """What the manifest of a checkpoint says."""

    path: Path
    step: int
    total_added: int
    """Transitions that were ever added to the replay buffer."""
    files: dict[str, Any]
    """Size and SHA-256 of each file, by name."""
    configuration: dict[str, Any]
    """Of the run that wrote it, resolved, as are the versions of its packages."""
    versions: dict[str, Any]
    hardware: dict[str, Any]
    """What the run used, resolved, and what its weights began with; empty in checkpoints of version 0.1.0."""
    lineage: dict[str, Any]
    segments: list[Segment]


def whole_checkpoints(run: Path) -> list[Checkpoint]:
    """Return the checkpoints of a run from the newest undamaged one on, the newest first; none if there never was one.

    Damaged ones are put aside, unless all are: then DamagedError names what is missing of each. Of the older ones only
    the manifests are read, which say what segments they need. Raises ConfigurationError for another version's.
    """
    recover(run / models.CHECKPOINTS)
    recover(run / models.BUFFER)
    found, damaged = [], {}
    for path in reversed(models.step_checkpoints(run)):
        try:
            found.append(_read_manifest(path) if found else verify(path))
        except DamagedError as error:
            damaged[path] = error
    if not found and (damaged or any((run / models.CHECKPOINTS).glob(f"{BAD}step_*"))):
        reasons = "; ".join(f"{path.name}: {error}" for path, error in damaged.items())
        raise DamagedError(reasons or "every checkpoint was put aside as damaged")
    for path, error in damaged.items():
        put_aside(path, error)
    return found


def verify(path: Path) -> Checkpoint:
    """Return the checkpoint at ``path``; raise DamagedError naming what of it or of its segments has changed."""
    found = _read_manifest(path)
    if path.name != f"step_{found.step}":
        raise DamagedError(f"{models.MANIFEST} is of step {found.step}")
    if not {models.MODEL, models.STATE, models.ARRAYS} <= found.files.keys():
        raise DamagedError(f"{models.MANIFEST} does not name every file")
    for before, after in pairwise(found.segments):
        if before.high != after.low:
            raise DamagedError(f"transitions {before.high} to {after.low} are missing")
    models.check_files(path, found.files)
    segments = {segment.name: {"size": segment.size, "sha256": segment.sha256} for segment in found.segments}
    models.check_files(path.parents[1] / models.BUFFER, segments)
    return found


def _read_manifest(path: Path) -> Checkpoint:
    if path.is_symlink():
        raise DamagedError("it is a link")
    content = models.read_manifest(path)
    if content.get("format") != FORMAT:
        raise ConfigurationError(
            f"{path} has the format {printable(content.get('format'))} and this version of mtrl reads {FORMAT}: "
            "continue with the version that wrote it, or train from scratch with fresh=true"
        )
    try:
        found = content["segments"]
        segments = [Segment(*(int(s[k]) for k in ("low", "high", "size")), str(s["sha256"])) for s in found]
        if any(s.size > 2**13 * (s.high - s.low) + 2**20 for s in segments):
            raise ValueError("segments of a possible size")
        numbers = (int(content[name]) for name in ("step", "total_added"))
        tables = (dict(content[name]) for name in ("files", "configuration", "versions"))
        later = (section(content, name) for name in ("hardware", "lineage"))
        return Checkpoint(path, *numbers, *tables, *later, segments)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedError(f"{models.MANIFEST} lacks {error}") from error


def put_aside_damaged_models(run: Path) -> None:
    """Put aside of the best model, and of those of stages, what is not as it was written."""
    folder = run / models.CHECKPOINTS
    for path in (*folder.glob(models.BEST), *folder.glob("stage_*")):
        try:
            # Version 0.1.0 wrote no manifest.
            if (path / models.MANIFEST).exists():
                models.check_files(path, models.read_manifest(path)["files"])
            else:
                models.saved_step(models.find_model(str(path), key=""))
        except (DamagedError, ConfigurationError) as error:
            put_aside(path, error)
