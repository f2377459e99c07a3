"""Hands tasks to environment copies so that each gets its share, exactly over time and with few changes."""

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from stable_baselines3.common.vec_env import VecEnv


class Rotation:
    """Decides what each copy plays next.

    A copy resets itself within the step that ends its episode, so its next task is settled while it still
    plays. Of ``n`` copies, a task of share ``w`` always has ``floor(n w)``, which stay with it. Copies left
    over go to the task that is owed the most environment steps, so that also with fewer copies than tasks
    each has its share over time: its steps never stray from it by more than two episodes.

    Args:
        env: The copies, before their first reset: as many as it can keep the task they were made with.
        horizon: Environment steps of a full episode.
        weights: Share of each task; they sum to 1.
    """

    def __init__(self, env: VecEnv, horizon: int, weights: Sequence[float]) -> None:
        self._env, self._horizon, self.copies = env, horizon, range(env.num_envs)
        # The task that follows, which each copy has been told; none of them yet.
        self.coming = [-1] * env.num_envs
        self._counted = [False] * env.num_envs
        self.owed = [0.0] * len(weights)
        self._set_weights(weights)
        # Dealt out in the order of the tasks.
        last = max(task for task, weight in enumerate(self.weights) if weight > 0)
        for copy in self.copies:
            share = (copy + 0.5) / env.num_envs
            dealt = (task for task, total in enumerate(accumulate(self.weights)) if share < total)
            self._settle(copy, next(dealt, last))

    def _set_weights(self, weights: Sequence[float]) -> None:
        self.weights = [float(weight) for weight in weights]
        # 3 of 30 copies must not become 2 because the share is a rounded 0.0999...
        self._whole = [math.floor(len(self.coming) * weight + 1e-6) for weight in self.weights]

    def change(self, weights: Sequence[float], *, afresh: bool) -> None:
        """Give the tasks other shares from the next episode of each copy on; ``afresh`` forgets what they are owed."""
        for task in self.coming:
            self._book(task, -self._horizon)
        self._set_weights(weights)
        if afresh:
            self.owed = [0.0] * len(self.owed)
            self._counted = [False] * len(self._counted)
        for copy in self.copies:
            self._settle(copy, self._choose(copy))

    def episodes_began(self, copies: Iterable[int]) -> None:
        """Settle what ``copies`` play after the episodes that they have just begun."""
        for copy in copies:
            self._counted[copy] = True
            self._settle(copy, self._choose(copy))

    def episode_ended(self, copy: int, task: int, length: int) -> None:
        """Give back what an episode that ended early was booked for."""
        if self._counted[copy] and length < self._horizon:
            self._book(task, length - self._horizon)

    def _settle(self, copy: int, task: int) -> None:
        if self.coming[copy] != task:
            self._env.env_method("set_task", task, indices=[copy])
        self.coming[copy] = task
        self._book(task, self._horizon)

    def _book(self, task: int, steps: int) -> None:
        for other, weight in enumerate(self.weights):
            self.owed[other] += weight * steps
        self.owed[task] -= steps

    def _choose(self, copy: int) -> int:
        """Return the task of the next episode of ``copy``."""
        present = self.coming[copy]
        held = [self.coming.count(task) - (task == present) for task in range(len(self.weights))]
        if held[present] < self._whole[present]:
            return present
        short = [task for task, whole in enumerate(self._whole) if held[task] < whole]
        candidates = short or [task for task, weight in enumerate(self.weights) if weight > 0]
        # What the tasks will be owed when this episode is counted decides.
        due = {task: self.owed[task] + self.weights[task] * self._horizon for task in candidates}
        most = max(candidates, key=lambda task: due[task])
        return present if due.get(present, -math.inf) > due[most] - self._horizon / 2 else most

    def get_state(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        state = {"weights": self.weights, "coming": self.coming, "counted": self._counted, "owed": self.owed}
        return {name: list(values) for name, values in state.items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called; the environments have a state of their own."""
        self._set_weights(state["weights"])
        self.coming, self._counted, self.owed = (list(state[name]) for name in ("coming", "counted", "owed"))
