"""The types of the environments' keys."""

from dataclasses import dataclass

from mtrl.config.values import require, require_choice, whole_steps
from mtrl.tasks import HORIZON

REWARDS = ("v1", "v2")


@dataclass(slots=True)
class EnvConfig:
    """The environments."""

    tasks: list[str]
    """The task set; a task's place in it is its id."""
    copies_per_task: int
    """Environments of each task that run side by side."""
    horizon: int
    """Length of an episode in environment steps, a truncation; at most Meta-World's 500."""
    reward: str
    """Meta-World's reward version: v2 (0..10 a step) or v1 (up to 10^6 an episode)."""
    terminate_on_success: bool
    """End an episode when the task is solved (Meta-World calls this unstable in training)."""
    normalize_observations: bool
    """Running mean and variance over the observation, never over the task's one-hot."""
    normalize_reward: bool
    """Divide the reward by the running deviation of the return."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        whole_steps("env.copies_per_task", self.copies_per_task)
        whole_steps("env.horizon", self.horizon)
        require(
            self.horizon <= HORIZON,
            f"env.horizon={self.horizon} is over Meta-World's limit: an episode has at most {HORIZON} steps",
        )
        why = ": Meta-World knows two rewards and would silently train on v1 (v3 is the version of its tasks)"
        require_choice("env.reward", self.reward, REWARDS, why)
