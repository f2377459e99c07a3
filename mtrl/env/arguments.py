"""What the environments are given by people with a loop of their own: refused in one sentence, or made plain."""

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl.errors import NotFiniteError
from mtrl.tasks import HORIZON


def check_actions(actions: Any, shape: tuple[int, ...], who: Callable[[int], str]) -> NDArray[Any]:
    """Return actions as an array of ``shape``, (n_envs, 4), once all of them can be simulated.

    Args:
        actions: What ``step`` was given.
        shape: The shape that fits.
        who: Names a copy in a message.

    Raises:
        ValueError: The shape is another one.
        NotFiniteError: An action holds NaN or infinity.
    """
    actions = np.asarray(actions)
    if actions.shape != shape:
        raise ValueError(f"actions of shape {actions.shape} do not fit {shape[0]} copies: give {shape}")
    # Looked at in plain Python: for the few numbers of a step, numpy's call takes longer.
    if not all(map(math.isfinite, actions.ravel().tolist())):
        copy = int(np.argmin(np.isfinite(actions).all(axis=1)))
        raise NotFiniteError(
            f"action {actions[copy]} of {who(copy)} is not finite: check the policy's weights"
        )
    return actions


def whole(name: str, value: Any, low: int | None = None) -> int:
    """Return a whole number, of Python's or numpy's, that is at least ``low``.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name}={value!r} must be a whole number")
    if low is not None and value < low:
        raise ValueError(f"{name}={value} must be at least {low}")
    return int(value)


def horizon_of(value: Any) -> int:
    """Return the length of an episode; raise ValueError where Meta-World has no such episode."""
    horizon = whole("horizon", value)
    if not 1 <= horizon <= HORIZON:
        raise ValueError(
            f"horizon={horizon} must lie in 1..{HORIZON}: Meta-World ends an episode at {HORIZON}"
        )
    return horizon


def copies_of(value: Any, n_tasks: int) -> list[int]:
    """Return the number of copies of each task, given as one number or as one a task; raise ValueError."""
    numbers = list(value) if isinstance(value, Sequence | np.ndarray) else [value] * n_tasks
    try:
        copies = [whole("copies_per_task", number, 0) for number in numbers]
    except ValueError:
        copies = []
    if len(copies) != n_tasks or sum(copies) < 1:
        raise ValueError(f"copies_per_task={value} must give each of {n_tasks} tasks a count")
    return copies


def task_of(value: Any, n_tasks: int) -> int:
    """Return the id of a task of a set of ``n_tasks``; raise ValueError where there is none."""
    task = whole("task", value)
    if not 0 <= task < n_tasks:
        raise ValueError(f"task {task} is not in the set of {n_tasks} tasks")
    return task


def check_choice(name: str, value: Any, known: Sequence[Any]) -> None:
    """Raise ValueError unless ``value`` is one of ``known``."""
    if value not in known:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(str, known))}")
