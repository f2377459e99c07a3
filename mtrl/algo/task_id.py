"""Which task a transition is of: what the environment says must be what the networks will read."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def tasks_of(infos: list[dict[str, Any]], n_tasks: int) -> NDArray[np.int64]:
    """Return the task of each copy's transition, shape (n_envs,); 0 where there is a single one.

    Raises:
        ValueError: an info has no ``task_id``, or one that is none of the tasks.
    """
    if n_tasks == 1:
        return np.zeros(len(infos), dtype=np.int64)
    missing = [copy for copy, info in enumerate(infos) if "task_id" not in info]
    if missing:
        raise ValueError(
            f"the info of copy {missing[0]} lacks task_id, which a buffer of {n_tasks} tasks needs"
        )
    tasks = np.fromiter((info["task_id"] for info in infos), np.int64, len(infos))
    unknown = np.flatnonzero((tasks < 0) | (tasks >= n_tasks))
    if len(unknown):
        raise ValueError(
            f"copy {unknown[0]} plays the task {tasks[unknown[0]]}, which is none of the {n_tasks} tasks of this "
            "buffer: n_tasks must be the number of tasks of the environments"
        )
    return tasks


def check_one_hot(obs: NDArray[np.float32], tasks: NDArray[np.int64], n_tasks: int) -> None:
    """Refuse observations, (n_envs, obs_dim), that do not end with the one-hot of their task.

    Raises:
        ValueError: naming the first copy.
    """
    ends = np.reshape(obs, (len(tasks), -1))[:, -n_tasks:]
    differing = np.flatnonzero((ends != np.eye(n_tasks, dtype=ends.dtype)[tasks]).any(axis=1))
    if len(differing):
        copy = differing[0]
        raise ValueError(
            f"the observation of copy {copy} ends with {ends[copy].tolist()}, which is not the one-hot of its task "
            f"{tasks[copy]} among {n_tasks}: heads per task need it"
        )
