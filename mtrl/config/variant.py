"""The types of the networks' keys."""

from dataclasses import dataclass

from mtrl.config.values import require, require_choice, require_layers


@dataclass(slots=True)
class VariantConfig:
    """The networks, and how they know the task."""

    name: str
    """plain (no task id), shared (one-hot task id), multihead (one-hot task id and a critic per task)."""
    actor_layers: list[int]
    """Widths of the actor's hidden layers."""
    critic_layers: list[int]
    """Widths of the hidden layers of each critic."""
    layer_norm: bool
    """LayerNorm after each hidden layer of the critics."""
    initialisation: str
    """First weights: torch (as stable-baselines3) or metaworld_algorithms (He-uniform, outputs near 0)."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        require_layers("variant.actor_layers", self.actor_layers)
        require_layers("variant.critic_layers", self.critic_layers)
        require_choice("variant.initialisation", self.initialisation, ("torch", "metaworld_algorithms"))

    @property
    def task_id(self) -> bool:
        """Whether the observation carries the task's one-hot."""
        return True


@dataclass(slots=True)
class PlainConfig(VariantConfig):
    """One network for all tasks, which is not told the task."""

    @property
    def task_id(self) -> bool:
        """Whether the observation carries the task's one-hot."""
        return False


@dataclass(slots=True)
class MultiheadConfig(VariantConfig):
    """A critic, and optionally an actor, per task."""

    shared_layers: int | str
    """Hidden layers that the critics of all tasks share: 0 is separate critics, all one linear head each."""
    actor_heads: bool
    """A linear head per task in the actor too."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        VariantConfig.__post_init__(self)
        layers = len(self.critic_layers)
        known = self.shared_layers == "all" or (
            isinstance(self.shared_layers, int) and 0 <= self.shared_layers <= layers
        )
        require(known, f"variant.shared_layers={self.shared_layers} must be all or 0 to {layers}")
