"""Which task and goal one environment copy plays at its next reset."""

from typing import Any

import numpy as np

from mtrl.env.arguments import whole
from mtrl.tasks import GOALS


class Schedule:
    """The task and goal of a copy's coming episodes.

    Meta-World ignores ``reset(seed=...)`` and draws goals from a generator it shares with everything else; here
    each copy owns its generator, so that what it plays depends on its seed alone and not on its neighbours.

    Args:
        task: Index in the task set of the task to play first.
        seed: Seed of this copy's generator.
    """

    def __init__(self, task: int, seed: int) -> None:
        self.task = task
        self.goal: int | None = None
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Restart the generator that draws the goals."""
        self._generator = np.random.default_rng(seed)

    def set_task(self, task: int, goal: int | None = None) -> None:
        """Play ``task`` from the next reset on; always its goal number ``goal``, or a random one where None."""
        task, goal = whole("task", task), None if goal is None else whole("goal", goal)
        if goal is not None and not 0 <= goal < GOALS:
            raise ValueError(f"goal {goal} does not exist: a task has goals 0 to {GOALS - 1}")
        self.task, self.goal = task, goal

    def next_episode(self) -> tuple[int, int]:
        """Return (task, goal) of the episode that begins now."""
        goal = int(self._generator.integers(GOALS)) if self.goal is None else self.goal
        return self.task, goal

    def get_state(self) -> dict[str, Any]:
        """Return the state as plain values that JSON can hold."""
        return {"task": self.task, "goal": self.goal, "generator": self._generator.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called."""
        self.task, self.goal = state["task"], state["goal"]
        self._generator.bit_generator.state = state["generator"]
