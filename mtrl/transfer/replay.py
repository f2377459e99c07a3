"""Transitions of one task set given to another: those of the tasks that both have."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl.algo.replay import TaskReplayBuffer
from mtrl.checkpoint.state import read_arrays
from mtrl.checkpoint.store import Checkpoint, verify
from mtrl.config.types import require
from mtrl.errors import ConfigurationError, DamagedError
from mtrl.rundir.models import BUFFER, ModelFiles, step_checkpoints
from mtrl.tasks import OBSERVATION_SIZE

Rows = dict[str, NDArray[Any]]


def find_transitions(files: ModelFiles) -> Checkpoint:
    """Return the checkpoint whose transitions belong to a source: its own, or the newest of its run.

    Raises:
        ConfigurationError: There is none, or it is damaged.
    """
    asked, run, own = "transfer.parts asks for the replay", files.run, files.model.parent
    require(run is not None, f"{asked}, which a mere model does not have: name a run directory as source")
    checkpoints = step_checkpoints(run)
    require(bool(checkpoints), f"{asked} and {run} has no checkpoint with one: leave replay out")
    try:
        return verify(own if own in checkpoints else checkpoints[-1])
    except DamagedError as error:
        raise ConfigurationError(f"the replay of {run} is damaged ({error}): leave replay out") from error


def begin_replay(
    replay: TaskReplayBuffer,
    checkpoint: Checkpoint,
    source: Sequence[str],
    target: Sequence[str],
    *,
    task_id: bool,
) -> int:
    """Fill a run's new buffer with the newest transitions of a source's checkpoint; return how many.

    Only those of tasks in both ``source`` and ``target`` are taken; ``task_id`` says whether the run's observations
    carry the task's one-hot.
    """
    folder = checkpoint.path.parents[1] / BUFFER
    parts: list[Rows] = []
    found = 0
    for segment in reversed(checkpoint.segments):
        parts.insert(0, _translate(read_arrays(folder / segment.name), source, target, task_id))
        found += len(parts[0]["tasks"])
        if found >= replay.buffer_size:
            break
    kept = min(found, replay.buffer_size)
    if kept:
        rows = {name: np.concatenate([part[name] for part in parts])[-kept:] for name in parts[0]}
        # What lies between two of them may be missing, so no return looks over several of them.
        rows["previous"] = np.zeros(kept, dtype=np.int32)
        replay.restore(0, [rows])
    return kept


def _translate(rows: Rows, source: Sequence[str], target: Sequence[str], task_id: bool) -> Rows:
    """Return the transitions of the tasks in ``target``, with its task ids and its one-hot."""
    ids = np.array([target.index(task) if task in target else -1 for task in source])
    tasks = ids[np.asarray(rows["tasks"], dtype=np.int64)]
    keep = tasks >= 0
    translated = {name: values[keep] for name, values in rows.items() if name != "previous"}
    translated["tasks"] = tasks[keep]
    one_hot = np.eye(len(target), dtype=np.float32)[tasks[keep]][:, : None if task_id else 0]
    for name in ("observations", "next_observations"):
        translated[name] = np.concatenate([translated[name][:, :OBSERVATION_SIZE], one_hot], axis=1)
    return translated
