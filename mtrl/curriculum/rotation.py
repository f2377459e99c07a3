"""Hands tasks to environment copies so that each gets its share, exactly over time and with few changes."""

import math
from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.vec_env import VecEnv


class Rotation:
    """Decides what each copy plays next.

    A copy resets itself within the step that ends its episode, so its next task is settled while it still
    plays. Of ``n`` copies, a task of share ``w`` always has ``floor(n w)``, which stay with it. Copies left
    over go to the task that is owed the most environment steps, so that also with fewer copies than tasks
    each has its share over time: its steps never stray from it by more than two episodes.

    Args:
        n_copies: Environment copies.
        horizon: Environment steps of a full episode.
        weights: Share of each task; they sum to 1.
    """

    def __init__(self, n_copies: int, horizon: int, weights: Sequence[float]) -> None:
        self.horizon = horizon
        self.coming = [0] * n_copies
        self._counted = [False] * n_copies
        self._assigned: list[int | None] = [None] * n_copies
        self.owed = [0.0] * len(weights)
        self._set_weights(weights)

    def _set_weights(self, weights: Sequence[float]) -> None:
        self.weights = [float(weight) for weight in weights]
        # 3 of 30 copies must not become 2 because the share is a rounded 0.0999...
        self._whole = [math.floor(len(self.coming) * weight + 1e-6) for weight in self.weights]

    def begin(self, env: VecEnv) -> None:
        """Assign every copy before the first reset: as many as it can keep the task they were made with."""
        for copy in range(len(self.coming)):
            self.coming[copy] = self._initial(copy)
        self._settle(env, range(len(self.coming)), book=True)

    def _initial(self, copy: int) -> int:
        """Return the task a copy would have if the copies were dealt out in the order of the tasks."""
        share = (copy + 0.5) / len(self.coming)
        total = 0.0
        for task, weight in enumerate(self.weights):
            total += weight
            if share < total:
                return task
        return max(task for task, weight in enumerate(self.weights) if weight > 0)

    def change(self, env: VecEnv, weights: Sequence[float], *, afresh: bool) -> None:
        """Give the tasks other shares from the next episode of each copy on.

        Args:
            env: The environments.
            weights: The new shares.
            afresh: Forget what the tasks are owed: the shares are those of a new stage.
        """
        for copy in range(len(self.coming)):
            self._book(self.coming[copy], -self.horizon)
        self._set_weights(weights)
        if afresh:
            self.owed = [0.0] * len(self.owed)
            self._counted = [False] * len(self._counted)
        self._settle(env, range(len(self.coming)), book=False)

    def episodes_began(self, env: VecEnv, copies: Sequence[int]) -> None:
        """Settle what ``copies`` play after the episodes that they have just begun."""
        for copy in copies:
            self._counted[copy] = True
        self._settle(env, copies, book=False)

    def episode_ended(self, copy: int, task: int, length: int) -> None:
        """Give back what an episode that ended early was booked for."""
        if self._counted[copy] and length < self.horizon:
            self._book(task, length - self.horizon)

    def _settle(self, env: VecEnv, copies: Sequence[int], *, book: bool) -> None:
        for copy in copies:
            if not book:
                self.coming[copy] = self._choose(copy)
            task = self.coming[copy]
            self._book(task, self.horizon)
            if self._assigned[copy] != task:
                env.env_method("set_task", task, indices=[copy])
                self._assigned[copy] = task

    def _book(self, task: int, steps: int) -> None:
        for other, weight in enumerate(self.weights):
            self.owed[other] += weight * steps
        self.owed[task] -= steps

    def _choose(self, copy: int) -> int:
        """Return the task of the next episode of ``copy``."""
        present = self.coming[copy]
        held = [0] * len(self.weights)
        for other, task in enumerate(self.coming):
            if other != copy:
                held[task] += 1
        if held[present] < self._whole[present]:
            return present
        short = [task for task, whole in enumerate(self._whole) if held[task] < whole]
        candidates = short or [task for task, weight in enumerate(self.weights) if weight > 0]
        # What the tasks will be owed when this episode is counted decides.
        due = {task: self.owed[task] + self.weights[task] * self.horizon for task in candidates}
        most = max(candidates, key=lambda task: due[task])
        if present in due and due[present] > due[most] - self.horizon / 2:
            return present
        return most

    def get_state(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "weights": list(self.weights),
            "coming": list(self.coming),
            "counted": list(self._counted),
            "assigned": list(self._assigned),
            "owed": list(self.owed),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called; the environments have a state of their own."""
        self._set_weights(state["weights"])
        self.coming, self._counted = list(state["coming"]), list(state["counted"])
        self._assigned, self.owed = list(state["assigned"]), list(state["owed"])
