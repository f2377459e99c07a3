"""How a transition lies in a row of float32."""

import numpy as np
from numpy.typing import NDArray

from mtrl.nonfinite import NonFinite

_NAMES = ("observations", "actions", "next_observations", "rewards", "terminated", "truncated", "tasks")
_KEPT_AS = {"terminated": np.uint8, "truncated": np.uint8, "tasks": np.int32}
_SINGULAR = {"rewards": "reward", "actions": "action"}


class RowLayout:
    """The columns of observation, action, next observation, reward, termination, time limit and task.

    Args:
        obs_dim: Width of an observation.
        action_dim: Width of an action.
    """

    def __init__(self, obs_dim: int, action_dim: int) -> None:
        edges = np.cumsum([0, obs_dim, action_dim, obs_dim, 1, 1, 1, 1]).tolist()
        self.columns = dict(zip(_NAMES, map(slice, edges, edges[1:]), strict=True))
        self.width = edges[-1]

    def pack(
        self,
        obs: NDArray[np.float32],
        next_obs: NDArray[np.float32],
        action: NDArray[np.float32],
        reward: NDArray[np.float32],
        done: NDArray[np.bool_],
        timeout: NDArray[np.bool_],
        tasks: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return rows (n, width); an episode that a time limit ended did not terminate."""
        n = len(tasks)
        parts = (obs, action, next_obs, reward, done & ~timeout, done & timeout, tasks)
        return np.concatenate([np.reshape(part, (n, -1)) for part in parts], axis=1, dtype=np.float32)

    def unpack(self, rows: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        """Return rows as one array per column, flags and tasks as integers: what a checkpoint keeps."""
        parts = {name: rows[:, column] for name, column in self.columns.items()}
        for name in ("rewards", "terminated", "truncated", "tasks"):
            parts[name] = parts[name][:, 0].astype(_KEPT_AS.get(name, np.float32))
        return parts

    def repack(self, parts: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """Return the rows that ``unpack`` took apart.

        Raises:
            ValueError: they have other widths than this layout.
        """
        n = len(parts["rewards"])
        rows = np.concatenate(
            [np.asarray(parts[name], dtype=np.float32).reshape(n, -1) for name in _NAMES], axis=1
        )
        if n and rows.shape[1] != self.width:
            raise ValueError(
                "the saved transitions have other shapes than this buffer's observations and actions"
            )
        return rows.reshape(n, self.width)

    def check_finite(self, rows: NDArray[np.float32], keep: NDArray[np.bool_], step: int) -> None:
        """Refuse the rows (one per copy) to ``keep`` if a number among them is NaN or infinite.

        Raises:
            NonFinite: naming the first such tensor, its copy and its task.
        """
        wrong = keep & ~np.isfinite(rows).all(axis=1)
        if not wrong.any():
            return
        copy = int(np.flatnonzero(wrong)[0])
        transition = {name: rows[copy, column] for name, column in self.columns.items()}
        tensor = next(name for name, values in transition.items() if not np.isfinite(values).all())
        name = f"{_SINGULAR.get(tensor, 'observation')} of copy {copy}"
        raise NonFinite(name, step, [int(transition["tasks"][0])], transition)
