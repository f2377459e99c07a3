"""The replay buffer on disk: immutable files of consecutive transitions, each written once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mtrl.algo.replay import TaskReplayBuffer
from mtrl.checkpoint.state import read_arrays
from mtrl.errors import DamagedError
from mtrl.rundir.layout import segment_name
from mtrl.rundir.write import TEMPORARY, place_file, sha256

_ROWS = 250_000
"""Transitions of one file at most: what is read, and copied, at a time."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A file with the transitions numbered ``low`` up to but without ``high``."""

    low: int
    high: int
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name; it says what is inside, so nobody can make it point elsewhere."""
        return segment_name(self.low, self.high)

    def as_dict(self) -> dict[str, Any]:
        """Return the segment as plain values."""
        return asdict(self)


def write_new(folder: Path, replay: TaskReplayBuffer, written: Sequence[Segment]) -> list[Segment]:
    """Write the transitions that ``written`` lacks and return the segments that hold the whole buffer.

    Args:
        folder: Where segments live.
        replay: The buffer.
        written: The segments of the last checkpoint, consecutive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = replay.total_added
    oldest = total - replay.size()
    low = max(written[-1].high if written else 0, oldest)
    segments = [segment for segment in written if segment.high > oldest]
    for start in range(low, total, _ROWS):
        segments.append(_write(folder, replay, start, min(start + _ROWS, total)))
    return segments


def _write(folder: Path, replay: TaskReplayBuffer, low: int, high: int) -> Segment:
    temporary = folder / f"{TEMPORARY}{low}_{high}.npz"
    try:
        np.savez(temporary, **replay.rows(low, high))
        segment = Segment(low, high, temporary.stat().st_size, sha256(temporary))
        place_file(temporary, folder / segment.name)
    finally:
        temporary.unlink(missing_ok=True)
    return segment


def verify(folder: Path, segments: Sequence[Segment]) -> None:
    """Check that the segments are consecutive and their files as they were written.

    Raises:
        DamagedError: naming the first that is not.
    """
    for before, after in pairwise(segments):
        if before.high != after.low:
            raise DamagedError(f"transitions {before.high} to {after.low} are missing")
    for segment in segments:
        path = folder / segment.name
        if path.is_symlink() or not path.is_file() or path.stat().st_size != segment.size:
            raise DamagedError(f"buffer/{segment.name} is missing or cut short")
        if sha256(path) != segment.sha256:
            raise DamagedError(f"buffer/{segment.name} is not what was written")


def restore(folder: Path, segments: Sequence[Segment], replay: TaskReplayBuffer, total: int) -> None:
    """Fill ``replay`` with the newest transitions of ``segments``, of ``total`` that were ever added.

    Raises:
        DamagedError: They do not fit the buffer.
    """
    # The first segment may begin with transitions that were overwritten since.
    oldest = max(0, total - replay.buffer_size, segments[0].low if segments else 0)

    def parts() -> Iterator[dict[str, Any]]:
        for segment in segments:
            if segment.high > oldest:
                skipped = max(0, oldest - segment.low)
                arrays = read_arrays(folder / segment.name)
                yield {name: values[skipped:] for name, values in arrays.items()}

    try:
        replay.restore(oldest, parts())
        if replay.total_added != total:
            raise ValueError(f"{replay.total_added:,} of {total:,} are there")
    except (KeyError, ValueError) as error:
        raise DamagedError(f"the transitions do not fit the replay buffer ({error})") from error


def prune(folder: Path, kept: Iterable[Segment]) -> None:
    """Delete the segments that no kept checkpoint names."""
    names = {segment.name for segment in kept}
    for path in folder.glob("seg_*.npz"):
        if path.name not in names:
            path.unlink()
