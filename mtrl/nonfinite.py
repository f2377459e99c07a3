"""What stops a run because a number is no longer a number."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


class NonFinite(ArithmeticError):
    """A NaN or an infinity in what the learner is about to store, has computed, or has learned.

    Attributes:
        tensor: Name of the tensor, for instance ``reward`` or ``policy.critic.net.layers.0.weight``.
        step: Environment step at which it was noticed, None where unknown.
        tasks: Indices of the tasks concerned; empty where it concerns all or is unknown.
        transition: The offending transition as plain arrays, None where there is none.
    """

    def __init__(
        self, tensor: str, step: int | None, tasks: list[int], transition: dict[str, Any] | None = None
    ) -> None:
        self.tensor, self.step, self.tasks, self.transition = tensor, step, tasks, transition
        super().__init__(self.told())

    def told(
        self, names: Sequence[str] | None = None, checkpoint: Path | str | None = "<that checkpoint>"
    ) -> str:
        """Return the sentence for a person.

        Args:
            names: The tasks' names by index.
            checkpoint: What was saved last, None where nothing was.
        """
        where = "" if self.step is None else f" at step {self.step:,}"
        tasks = [str(task) if names is None else names[task] for task in self.tasks]
        whose = f" of task {', '.join(tasks)}" if tasks else ""
        if self.transition is None:
            # Both keys make another run, which does not go on in the directory of this one.
            how = "a lower algo.learning_rate, or algo.max_gradient_norm=1 where algo=sac"
            advice = f"train anew with {how}"
            if checkpoint is not None:
                advice = f"continue from the last checkpoint in a new run, with transfer.source={checkpoint} and {how}"
        else:
            advice = "the environment, or the policy that acted, is broken"
        return f"{self.tensor}{whose} is NaN or infinite{where}: {advice}"
