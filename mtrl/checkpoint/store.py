"""Writes and restores the checkpoints of one run: complete or absent, never one pickle read.

``mtrl.rundir.checkpoints`` says what they are, and verifies them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.algo.replay import TaskReplayBuffer
from mtrl.algo.sac import check_finite
from mtrl.checkpoint import state
from mtrl.checkpoint.model import load_weights, write_model
from mtrl.errors import DamagedError, TryAgainError
from mtrl.rundir import models
from mtrl.rundir.checkpoints import FORMAT, Checkpoint, Segment
from mtrl.rundir.environment import versions
from mtrl.rundir.models import facts_of, write_manifest
from mtrl.rundir.write import TEMPORARY, check_in_place, discard, new_directory, remove, sync

_SEGMENT_ROWS = 250_000
"""Transitions of one segment at most: what is read, and copied, at a time."""
_Sections = Mapping[str, Any]
"""What ``get_state`` returns of each, and ``set_state`` takes back, decides what comes next: numbers, words, lists,
dicts and arrays."""


class Store:
    """Writes and reads the checkpoints of the run in ``path``.

    It keeps the ``keep`` newest of them; ``best`` and those of stages stay anyway. Each names the ``configuration``.
    ``found`` are those of earlier starts, the newest first.
    """

    def __init__(
        self,
        path: Path,
        keep: int = 3,
        configuration: Mapping[str, Any] | None = None,
        found: Sequence[Checkpoint] = (),
    ) -> None:
        self.path, self.buffer, self._keep = path, path / models.BUFFER, keep
        self.facts = {"configuration": dict(configuration or {}), "versions": versions()}
        """What a manifest says of its run besides the files."""
        self._kept: dict[Path, Sequence[Segment]] = {each.path: each.segments for each in found}
        """The segments of each checkpoint."""
        self._newest: Sequence[Segment] = found[0].segments if found else ()
        if found:
            self._prune()

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
            numbers = {"format": FORMAT, "step": step, "total_added": replay.total_added}
            segments = [segment._asdict() for segment in written]
            write_manifest(folder, **numbers, segments=segments, **self.facts)
        self._newest = self._kept[target] = written
        self._prune()

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
        except TryAgainError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
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
                remove(path)


def write_segments(folder: Path, replay: TaskReplayBuffer, written: Sequence[Segment]) -> list[Segment]:
    """Write the transitions that ``written``, the last checkpoint's, lack; return the segments of the whole buffer."""
    check_in_place(folder)
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
