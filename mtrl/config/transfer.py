"""The types of the keys of a transfer."""

from dataclasses import dataclass

from mtrl.config.values import require, require_choice, require_positive, whole_steps

TRANSFER_PARTS = ("actor", "critic", "temperature", "optimiser", "replay", "normalisation")


@dataclass(slots=True)
class TransferConfig:
    """What the networks start from, where that is another run."""

    source: str | None
    """A run directory (its best model), a checkpoint, or a zip of stable-baselines3; null starts anew."""
    train: list[str]
    """Overrides of a run that is trained first, if it is not yet, and is then the source."""
    source_tasks: list[str]
    """Tasks of a zip in the order of its one-hot; a run directory knows its own."""
    parts: list[str]
    """What is taken over: actor, critic, temperature, optimiser, replay, normalisation; with the actor, it acts from
    the first step on, and algo.learning_starts says only when updates begin."""
    new_tasks: str
    """Tasks that the source lacks begin like the most related of its tasks, their mean, or fresh."""
    learning_rate_multiplier: float
    """Factor on algo.learning_rate."""
    freeze_steps: dict[str, float]
    """Environment steps for which actor, critic and temperature stay as they came."""
    baseline: bool
    """Train the same run from scratch, too, and compare the two."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        for part in self.parts:
            require_choice("transfer.parts", part, TRANSFER_PARTS)
        require_choice("transfer.new_tasks", self.new_tasks, ("related", "mean", "fresh"))
        require_positive("transfer.learning_rate_multiplier", self.learning_rate_multiplier)
        for part, steps in self.freeze_steps.items():
            whole_steps(f"transfer.freeze_steps.{part}", steps, 0)
        if self.active:
            require(bool(self.parts), "transfer.parts=[] takes nothing from the source: name actor or critic")
            of_none = "optimiser" in self.parts and not {"actor", "critic"} & set(self.parts)
            require(
                not of_none,
                f"transfer.parts={self.parts} has the optimiser of neither actor nor critic: name one of them, too",
            )
        else:
            require(
                not self.baseline,
                "transfer.baseline=true compares with a run from scratch, and this is one: name what it begins "
                "from with transfer.source or transfer.train",
            )
        either = self.source is None or not self.train
        require(
            either, "transfer.source and transfer.train both name a source: set one of them to null or []"
        )

    @property
    def active(self) -> bool:
        """Whether the run starts from another one."""
        return self.source is not None or bool(self.train)
