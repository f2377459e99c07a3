"""The types of the algorithms' keys."""

from dataclasses import dataclass
from typing import Any

from mtrl.config.values import (
    auto_or_number,
    require,
    require_choice,
    require_fraction,
    require_not_negative,
    require_positive,
    whole_steps,
)

OWN_SAC = "mtrl.algo.SAC"
OWN_OPTIONS = (
    "temperature",
    "balanced_batches",
    "max_gradient_norm",
    "reward_scaling",
    "reward_scale",
    "max_reward_ratio",
    "reward_scales_every",
    "adam_epsilon",
    "overlap",
)
"""Keys of ``algo=sac`` that only ``OWN_SAC`` has; their values in ``conf/algo/sac.yaml`` turn them off."""


@dataclass(slots=True)
class AlgoConfig:
    """What every off-policy algorithm has."""

    cls: str
    """Dotted path of the algorithm's class, of stable-baselines3's interface."""
    kwargs: dict[str, Any]
    """Further arguments of a foreign class, checked against its constructor."""
    learning_rate: float
    """Of Adam, for all networks."""
    buffer_size: int | float
    """Transitions in the replay buffer, over all environments."""
    learning_starts: int | float
    """Environment steps of random actions before the first update."""
    batch_size: int
    """Transitions of an update."""
    tau: float
    """Share of the networks that moves into their targets at each update."""
    gamma: float
    """Discount."""
    n_steps: int
    """Steps of the return that an update looks ahead."""
    updates: int | float
    """Updates per ``updates_per``, met within 1 %; less than one is allowed (0.1: one update in ten)."""
    updates_per: str
    """"vector_step" (one step of all copies) or "environment_step"."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        self.buffer_size = whole_steps("algo.buffer_size", self.buffer_size)
        self.learning_starts = whole_steps("algo.learning_starts", self.learning_starts, 0)
        whole_steps("algo.batch_size", self.batch_size)
        whole_steps("algo.n_steps", self.n_steps)
        require_positive("algo.learning_rate", self.learning_rate)
        require_positive("algo.updates", self.updates)
        require(self.updates >= 0.001, f"algo.updates={self.updates} must be at least 0.001")
        require_fraction("algo.tau", self.tau)
        require_fraction("algo.gamma", self.gamma)
        require_choice("algo.updates_per", self.updates_per, ("vector_step", "environment_step"))

    @property
    def compiles(self) -> bool:
        """Whether the class can compile its update, which stable-baselines3's cannot."""
        return self.cls == OWN_SAC


@dataclass(slots=True)
class SACConfig(AlgoConfig):
    """Soft actor-critic."""

    ent_coef: str | int | float
    """Temperature: auto, auto_<initial value>, or a fixed number."""
    target_entropy: str | int | float
    """auto (minus the number of action dimensions) or a number."""
    temperature: str
    """shared, or per_task: one temperature for each task."""
    balanced_batches: bool
    """The same number of transitions of each task in every batch."""
    max_gradient_norm: float | None
    """Gradients of actor and critic are clipped to this norm."""
    reward_scaling: str
    """none, or per_task: rewards of a batch are scaled so that tasks weigh alike."""
    reward_scale: float
    """Factor on every reward of a batch, on top of that."""
    max_reward_ratio: float
    """Largest factor by which per-task scaling lifts a task above the one with the largest mean reward."""
    reward_scales_every: int
    """Updates between two looks of per-task scaling at the mean rewards in the buffer."""
    adam_epsilon: float
    """What Adam adds to its denominators."""
    overlap: bool
    """Environments step while the learner updates: the newest transition is seen one update later."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        AlgoConfig.__post_init__(self)
        require_choice("algo.temperature", self.temperature, ("shared", "per_task"))
        require_choice("algo.reward_scaling", self.reward_scaling, ("none", "per_task"))
        require_positive("algo.reward_scale", self.reward_scale)
        require_positive("algo.adam_epsilon", self.adam_epsilon)
        whole_steps("algo.reward_scales_every", self.reward_scales_every)
        require_positive("algo.max_reward_ratio", self.max_reward_ratio)
        require(
            self.max_reward_ratio >= 1, f"algo.max_reward_ratio={self.max_reward_ratio} must be at least 1"
        )
        require_positive("algo.max_gradient_norm", self.max_gradient_norm)
        self.ent_coef = auto_or_number("algo.ent_coef", self.ent_coef, initial=True)
        self.target_entropy = auto_or_number("algo.target_entropy", self.target_entropy)
        require(
            self.temperature == "shared" or isinstance(self.ent_coef, str),
            f"algo.ent_coef={self.ent_coef} fixes the temperature, and algo.temperature=per_task learns one for "
            "each task: use algo.temperature=shared or algo.ent_coef=auto",
        )


@dataclass(slots=True)
class DDPGConfig(AlgoConfig):
    """Deep deterministic policy gradient."""

    action_noise: float
    """Standard deviation of the Gaussian noise on actions in training."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        AlgoConfig.__post_init__(self)
        require_not_negative("algo.action_noise", self.action_noise)


@dataclass(slots=True)
class TD3Config(DDPGConfig):
    """Twin delayed deep deterministic policy gradient."""

    policy_delay: int
    """Critic updates per actor update."""
    target_policy_noise: float
    """Standard deviation of the noise on target actions."""
    target_noise_clip: float
    """Bound of that noise."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        DDPGConfig.__post_init__(self)
        whole_steps("algo.policy_delay", self.policy_delay)
        require_not_negative("algo.target_policy_noise", self.target_policy_noise)
        require_not_negative("algo.target_noise_clip", self.target_noise_clip)
