"""Transitions of one task set given to another: those of tasks that both have."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl.algo.replay import TaskReplayBuffer
from mtrl.checkpoint.state import read_arrays
from mtrl.checkpoint.store import Checkpoint, verify
from mtrl.errors import ConfigurationError, DamagedError
from mtrl.rundir.layout import buffer_of, step_checkpoints
from mtrl.rundir.models import ModelFiles
from mtrl.tasks import OBSERVATION_SIZE

Rows = dict[str, NDArray[Any]]


def find_transitions(files: ModelFiles) -> Checkpoint:
    """Return the checkpoint whose transitions belong to a source: its own, or the newest of its run.

    Raises:
        ConfigurationError: There is none that is whole.
    """
    if files.run is None:
        raise ConfigurationError(
            "transfer.parts asks for the replay, which a mere model does not have: name a run directory as source"
        )
    checkpoints = step_checkpoints(files.run)
    if not checkpoints:
        raise ConfigurationError(
            f"transfer.parts asks for the replay and {files.run} has no checkpoint with one: leave replay out"
        )
    own = files.model.parent
    try:
        return verify(own if own in checkpoints else checkpoints[-1], buffer_of(files.run))
    except DamagedError as error:
        raise ConfigurationError(
            f"the replay of {files.run} is damaged ({error}): leave replay out"
        ) from error


def begin_replay(
    replay: TaskReplayBuffer, files: ModelFiles, source: Sequence[str], target: Sequence[str], task_id: bool
) -> int:
    """Fill a new buffer with the newest transitions of a source, of tasks that the run has; return how many.

    Args:
        replay: The run's buffer.
        files: The source.
        source: Its tasks.
        target: The run's tasks.
        task_id: Whether the run's observations carry the task's one-hot.
    """
    assert files.run is not None
    parts: list[Rows] = []
    found = 0
    for segment in reversed(find_transitions(files).segments):
        rows = translate(read_arrays(files.run / "buffer" / segment.name), source, target, task_id)
        parts.insert(0, rows)
        found += len(rows["tasks"])
        if found >= replay.buffer_size:
            break
    if found == 0:
        return 0
    joined = {
        name: np.concatenate([part[name] for part in parts])[-replay.buffer_size :] for name in parts[0]
    }
    kept = len(joined["tasks"])
    # What lies between two of them may be missing, so no return looks over several of them.
    joined["previous"] = np.zeros(kept, dtype=np.int32)
    replay.restore(kept, joined)
    replay.imported = kept
    return kept


def translate(rows: Rows, source: Sequence[str], target: Sequence[str], task_id: bool) -> Rows:
    """Return the transitions of the tasks in ``target``, with its numbers and its one-hot."""
    number = np.array([target.index(task) if task in target else -1 for task in source])
    tasks = number[np.asarray(rows["tasks"], dtype=np.int64)]
    keep = tasks >= 0
    translated = {name: values[keep] for name, values in rows.items() if name != "previous"}
    translated["tasks"] = tasks[keep]
    one_hot = np.eye(len(target), dtype=np.float32)[tasks[keep]] if task_id else np.zeros((keep.sum(), 0))
    for name in ("observations", "next_observations"):
        seen = translated[name][:, :OBSERVATION_SIZE]
        translated[name] = np.concatenate([seen, one_hot.astype(np.float32)], axis=1)
    return translated
