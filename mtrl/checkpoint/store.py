"""The checkpoints of one run: complete or absent, verified before they are used, never one pickle read.

``mtrl.rundir.layout`` says what lies where. A manifest names every file of its checkpoint
with size and SHA-256, and is written last.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.algo.finite import check_finite
from mtrl.checkpoint import segments
from mtrl.checkpoint.model import load_weights, write_model
from mtrl.checkpoint.segments import Segment
from mtrl.checkpoint.state import AgentState, Stateful, read_values, write_values
from mtrl.errors import ConfigurationError, DamagedError
from mtrl.rundir.layout import (
    ARRAYS,
    MANIFEST,
    MODEL,
    STATE,
    buffer_of,
    checkpoints_of,
    step_checkpoint,
    step_checkpoints,
    step_of,
)
from mtrl.rundir.read import read_json
from mtrl.rundir.write import discard, new_directory, recover, sha256, write_json

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of what a manifest describes."""
_BAD = ".bad-"
_MEND = (
    "continue with the version of mtrl that wrote it, or train anew with fresh=true, "
    "which moves the run directory aside"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One verified checkpoint."""

    path: Path
    step: int
    total_added: int
    """Transitions that were ever added to the replay buffer."""
    segments: tuple[Segment, ...]
    configuration: dict[str, Any]
    """The resolved configuration of the run that wrote it."""
    versions: dict[str, Any]
    """Versions of the packages that wrote it."""


class Store:
    """Writes and reads the checkpoints of one run.

    Args:
        path: The run directory.
        keep: Newest checkpoints to keep; ``best`` and those of stages stay anyway.
        configuration: What a new checkpoint says about its run.
        versions: The same for packages.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep: int = 3,
        configuration: Mapping[str, Any] | None = None,
        versions: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.checkpoints, self.buffer = path, checkpoints_of(path), buffer_of(path)
        self._keep = keep
        self._configuration, self._versions = dict(configuration or {}), dict(versions or {})
        self._segments: list[Segment] = []
        self._kept: dict[str, tuple[Segment, ...]] = {}

    def save(self, model: OffPolicyAlgorithm, sections: Mapping[str, Stateful]) -> Path:
        """Write a checkpoint of ``model`` between two rollouts, with the state of every section.

        Raises:
            NonFinite: A weight is NaN or infinite; nothing was written.
            OSError: The disk is full or broken; earlier checkpoints are untouched.
        """
        check_finite(model)
        step, replay = model.num_timesteps, model.replay_buffer
        target = step_checkpoint(self.path, step)
        states = {name: section.get_state() for name, section in sections.items()}
        states["agent"] = AgentState(model).get_state()
        written = segments.write_new(self.buffer, replay, self._segments)
        with new_directory(target) as folder:
            write_model(folder, model, step=step)
            write_values(folder / STATE, folder / ARRAYS, states)
            files = {file.name: _facts(file) for file in sorted(folder.iterdir())}
            manifest = {
                "format": FORMAT,
                "step": step,
                "total_added": replay.total_added,
                "files": files,
                "segments": [segment.as_dict() for segment in written],
                "configuration": self._configuration,
                "versions": self._versions,
            }
            write_json(folder / MANIFEST, sealed(manifest))
        self._segments = written
        self._kept[target.name] = tuple(written)
        self._prune()
        return target

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is as it was written, or None if there never was one.

        Damaged ones on the way are put aside and named in the log.

        Raises:
            DamagedError: There are checkpoints, and none is whole.
            ConfigurationError: The newest whole one is another version's.
        """
        recover(self.checkpoints)
        recover(self.buffer)
        reasons = []
        for path in reversed(step_checkpoints(self.path)):
            try:
                found = verify(path, self.buffer)
            except DamagedError as error:
                reasons.append(f"{path.name}: {error}")
                _put_aside(path, error)
                continue
            self._take_over(found)
            return found
        if reasons or any(self.checkpoints.glob(f"{_BAD}*")):
            raise DamagedError("; ".join(reasons) or "every checkpoint was put aside as damaged")
        return None

    def _take_over(self, found: Checkpoint) -> None:
        """Go on from ``found``: share its segments and keep what the older checkpoints name."""
        self._segments = list(found.segments)
        for path in step_checkpoints(self.path):
            try:
                self._kept[path.name] = _manifest(path).segments
            except DamagedError as error:
                _put_aside(path, error)
        self._prune()

    def restore(self, found: Checkpoint, model: OffPolicyAlgorithm, sections: Mapping[str, Stateful]) -> None:
        """Continue ``found`` exactly, with an agent and sections made anew from the same configuration.

        Raises:
            DamagedError: It lacks something that this run has, or has something that this run lacks.
        """
        try:
            states = read_values(found.path / STATE, found.path / ARRAYS)
            if states.keys() != {"agent", *sections}:
                differing = ", ".join(sorted(states.keys() ^ {"agent", *sections}))
                raise DamagedError(f"it and this version of mtrl differ in the state of {differing}")
            load_weights(found.path / MODEL, model)
            segments.restore(self.buffer, found.segments, model.replay_buffer, found.total_added)
            for name, section in sections.items():
                section.set_state(states[name])
            AgentState(model).set_state(states["agent"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = (
                error if isinstance(error, DamagedError) else f"it does not hold this run's state, {error!r}"
            )
            raise DamagedError(f"{found.path.name} cannot be gone on with ({why}): {_MEND}") from error

    def _prune(self) -> None:
        for path in step_checkpoints(self.path)[: -self._keep]:
            discard(path)
        present = {path.name for path in step_checkpoints(self.path)}
        self._kept = {name: kept for name, kept in self._kept.items() if name in present}
        segments.prune(self.buffer, [segment for kept in self._kept.values() for segment in kept])


def _put_aside(path: Path, error: DamagedError) -> None:
    logger.warning("checkpoint %s is put aside: %s", path.name, error)
    path.rename(path.with_name(f"{_BAD}{path.name}-{uuid.uuid4().hex[:8]}"))


def _facts(file: Path) -> dict[str, Any]:
    return {"size": file.stat().st_size, "sha256": sha256(file)}


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the SHA-256 of its own content, by which a flipped bit in it is noticed."""
    content = {name: value for name, value in manifest.items() if name != "seal"}
    return content | {"seal": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def _manifest(path: Path) -> Checkpoint:
    """Return what a checkpoint's manifest says."""
    if path.is_symlink():
        raise DamagedError("it is a link")
    content = read_json(path / MANIFEST)
    if sealed(content) != content:
        raise DamagedError(f"{MANIFEST} is not what was written")
    if content.get("format") != FORMAT:
        raise ConfigurationError(
            f"{path} has the format {content.get('format')} and this version of mtrl reads {FORMAT}: continue with "
            "the version that wrote it, or train anew with fresh=true"
        )
    try:
        return Checkpoint(
            path,
            int(content["step"]),
            int(content["total_added"]),
            tuple(
                Segment(int(s["low"]), int(s["high"]), int(s["size"]), str(s["sha256"]))
                for s in content["segments"]
            ),
            dict(content["configuration"]),
            dict(content["versions"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{MANIFEST} lacks {error}") from error


def verify(path: Path, buffer: Path) -> Checkpoint:
    """Return the checkpoint at ``path`` if it and its part of ``buffer`` are as they were written.

    Raises:
        DamagedError: naming what is not.
    """
    found = _manifest(path)
    if step_of(path) != found.step:
        raise DamagedError(f"{MANIFEST} is of step {found.step}")
    files = read_json(path / MANIFEST).get("files")
    if not isinstance(files, dict) or not {MODEL, STATE, ARRAYS} <= files.keys():
        raise DamagedError(f"{MANIFEST} does not name every file")
    for name, facts in files.items():
        file = path / name
        if Path(name).name != name or file.is_symlink() or not file.is_file():
            raise DamagedError(f"{name} is missing")
        if _facts(file) != facts:
            raise DamagedError(f"{name} is not what was written")
    segments.verify(buffer, found.segments)
    return found
