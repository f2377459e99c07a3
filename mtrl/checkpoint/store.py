"""The checkpoints of one run: complete or absent, verified before they are used, never one pickle read.

``mtrl.rundir.models`` says what lies where. Segments hold consecutive transitions of the replay buffer; each is written
once and shared by checkpoints. A manifest, written last, has the size and SHA-256 of every file and segment.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.algo.replay import TaskReplayBuffer
from mtrl.algo.sac import check_finite
from mtrl.checkpoint import state
from mtrl.checkpoint.model import load_weights, write_model
from mtrl.errors import ConfigurationError, DamagedError
from mtrl.rundir import models
from mtrl.rundir.environment import versions
from mtrl.rundir.read import read_json
from mtrl.rundir.write import TEMPORARY, discard, new_directory, recover, sync, write_json

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of what a manifest describes."""
_SEGMENT_ROWS = 250_000
"""Transitions of one segment at most: what is read, and copied, at a time."""
_BAD = ".bad-"
"""How the names of checkpoints begin that are damaged."""
_Sections = Mapping[str, Any]
"""What ``get_state`` returns of each, and ``set_state`` takes back, decides what comes next: numbers, words, lists,
dicts and arrays."""


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
    segments: list[Segment]


class Store:
    """Writes and reads the checkpoints of the run in ``path``.

    It keeps the ``keep`` newest of them; ``best`` and those of stages stay anyway. Each names the ``configuration``.
    """

    def __init__(self, path: Path, keep: int = 3, configuration: Mapping[str, Any] | None = None) -> None:
        self.path, self.buffer, self._keep = path, path / models.BUFFER, keep
        self._facts = {"configuration": dict(configuration or {}), "versions": versions()}
        self._kept: dict[Path, Sequence[Segment]] = {}
        """The segments of each checkpoint."""
        self._newest: Sequence[Segment] = ()

    def save(self, model: OffPolicyAlgorithm, sections: _Sections) -> None:
        """Write a checkpoint of ``model`` between two rollouts, with the state of every section.

        It holds all that a run depends on: the model with its targets, optimisers, temperatures, reward scales and
        settings; the normaliser's statistics; the state of each section (logs, schedules, clock, episodes, evaluations,
        curriculum) and of the agent (counters, last observations, simulation and generators of every environment copy,
        action noise, values not yet logged, generator and restriction of the replay buffer, generators of Python,
        numpy, torch and the action space); the transitions, as segments.

        Raises TrainingNotFiniteError if a weight is NaN or infinite, OSError if the disk is full or broken; earlier
        checkpoints are then untouched.
        """
        check_finite(model)
        step, replay = model.num_timesteps, model.replay_buffer
        target = models.step_checkpoint(self.path, step)
        states = {name: section.get_state() for name, section in sections.items()}
        states["agent"] = state.agent_state(model)
        written = write_segments(self.buffer, replay, self._newest)
        with new_directory(target) as folder:
            write_model(folder, model, step=step)
            state.write_values(folder / models.STATE, folder / models.ARRAYS, states)
            manifest = {
                "format": FORMAT,
                "step": step,
                "total_added": replay.total_added,
                "files": {file.name: facts_of(file) for file in sorted(folder.iterdir())},
                "segments": [segment._asdict() for segment in written],
            }
            write_json(folder / models.MANIFEST, sealed(manifest | self._facts))
        self._newest = self._kept[target] = written
        self._prune()

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is as it was written, or None if there never was one.

        Damaged ones on the way are put aside and named in the log. Raises DamagedError if all are damaged,
        ConfigurationError if the newest undamaged one is another version's.
        """
        folder = self.path / models.CHECKPOINTS
        recover(folder)
        recover(self.buffer)
        found, damaged = None, {}
        for path in reversed(models.step_checkpoints(self.path)):
            try:
                # The older ones only show which segments they need.
                read = _read_manifest(path) if found else verify(path)
            except DamagedError as error:
                damaged[path] = error
                continue
            self._kept[path] = read.segments
            found = found or read
        if found is None:
            if damaged or any(folder.glob(f"{_BAD}*")):
                reasons = "; ".join(f"{path.name}: {error}" for path, error in damaged.items())
                raise DamagedError(reasons or "every checkpoint was put aside as damaged")
            return None
        for path, error in damaged.items():
            logger.warning("checkpoint %s is put aside: %s", path.name, error)
            path.rename(path.with_name(f"{_BAD}{path.name}-{uuid.uuid4().hex[:8]}"))
        self._newest = found.segments
        self._prune()
        return found

    def restore(self, found: Checkpoint, model: OffPolicyAlgorithm, sections: _Sections) -> None:
        """Continue ``found`` exactly, with a new agent and new sections of the same configuration.

        Raises DamagedError if it lacks something that this run has, or has something that this run lacks.
        """
        try:
            states = state.read_values(found.path / models.STATE, found.path / models.ARRAYS)
            if states.keys() != {"agent", *sections}:
                differing = ", ".join(sorted(states.keys() ^ {"agent", *sections}))
                raise DamagedError(f"it and this version of mtrl differ in the state of {differing}")
            load_weights(found.path / models.MODEL, model)
            restore_segments(self.buffer, found.segments, model.replay_buffer, found.total_added)
            for name, section in sections.items():
                section.set_state(states[name])
            state.set_agent_state(model, states["agent"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            known = isinstance(error, DamagedError)
            why = error if known else f"it does not hold this run's state, {error!r}"
            raise DamagedError(
                f"{found.path.name} cannot be continued ({why}): continue with the version of mtrl that wrote it, or "
                "train from scratch with fresh=true, which moves the run directory aside"
            ) from error

    def _prune(self) -> None:
        """Delete the oldest checkpoints, and the segments that no kept checkpoint needs."""
        for path in models.step_checkpoints(self.path)[: -self._keep]:
            discard(path)
            self._kept.pop(path, None)
        names = {segment.name for segments in self._kept.values() for segment in segments}
        for path in self.buffer.glob("seg_*.npz"):
            if path.name not in names:
                path.unlink()


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
    buffer = path.parents[1] / models.BUFFER
    segments = ((buffer / s.name, {"size": s.size, "sha256": s.sha256}) for s in found.segments)
    for file, facts in (*((path / name, facts) for name, facts in found.files.items()), *segments):
        if file.parent not in (path, buffer) or file.is_symlink() or not file.is_file():
            raise DamagedError(f"{file.name} is missing")
        if facts_of(file) != facts:
            raise DamagedError(f"{file.name} is not what was written")
    return found


def _read_manifest(path: Path) -> Checkpoint:
    if path.is_symlink():
        raise DamagedError("it is a link")
    content = read_json(path / models.MANIFEST)
    if sealed(content) != content:
        raise DamagedError(f"{models.MANIFEST} is not what was written")
    if content.get("format") != FORMAT:
        raise ConfigurationError(
            f"{path} has the format {content.get('format')} and this version of mtrl reads {FORMAT}: continue with "
            "the version that wrote it, or train from scratch with fresh=true"
        )
    try:
        found = content["segments"]
        segments = [Segment(*(int(s[k]) for k in ("low", "high", "size")), str(s["sha256"])) for s in found]
        numbers = (int(content[name]) for name in ("step", "total_added"))
        tables = (dict(content[name]) for name in ("files", "configuration", "versions"))
        return Checkpoint(path, *numbers, *tables, segments)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{models.MANIFEST} lacks {error}") from error


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the SHA-256 of its own content, by which a flipped bit in it is noticed."""
    content = {name: value for name, value in manifest.items() if name != "seal"}
    return content | {"seal": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def facts_of(file: Path) -> dict[str, Any]:
    """Return what a manifest says of a file."""
    with file.open("rb") as content:
        return {"size": file.stat().st_size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}


def write_segments(folder: Path, replay: TaskReplayBuffer, written: Sequence[Segment]) -> list[Segment]:
    """Write the transitions that ``written``, the last checkpoint's, lack; return the segments of the whole buffer."""
    folder.mkdir(parents=True, exist_ok=True)
    total = replay.total_added
    oldest = total - replay.size()
    segments = [segment for segment in written if segment.high > oldest]
    for low in range(max(written[-1].high if written else 0, oldest), total, _SEGMENT_ROWS):
        high = min(low + _SEGMENT_ROWS, total)
        temporary = folder / f"{TEMPORARY}{low}_{high}.npz"
        try:
            np.savez(temporary, **replay.rows(low, high))
            segments.append(Segment(low, high, **facts_of(temporary)))
            sync(temporary)
            temporary.replace(folder / segments[-1].name)
            sync(folder)
        finally:
            temporary.unlink(missing_ok=True)
    return segments


def restore_segments(folder: Path, segments: Sequence[Segment], replay: TaskReplayBuffer, total: int) -> None:
    """Fill ``replay`` with the newest of ``total`` transitions ever added; raise DamagedError if they do not fit."""
    # The first segment may begin with transitions that were overwritten since.
    oldest = max(0, total - replay.buffer_size, segments[0].low if segments else 0)
    read = ((s.low, state.read_arrays(folder / s.name)) for s in segments if s.high > oldest)
    parts = ({name: rows[max(0, oldest - low) :] for name, rows in arrays.items()} for low, arrays in read)
    try:
        replay.restore(oldest, parts)
        if replay.total_added != total:
            raise ValueError(f"{replay.total_added:,} of {total:,} are there")
    except (KeyError, ValueError) as error:
        raise DamagedError(f"the transitions do not fit the replay buffer ({error})") from error
