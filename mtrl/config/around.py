"""The types of what surrounds learning: the machine, evaluations, checkpoints, logs, the end."""

import re
from dataclasses import dataclass

from mtrl.config.values import require, require_choice, require_fraction, require_positive, whole_steps

GOALS = ("train", "heldout")


@dataclass(slots=True)
class HardwareConfig:
    """What the run uses of the machine; nothing here changes a hyperparameter."""

    device: str
    """auto, cpu, cuda or cuda:<n>: where the networks and the replay buffer live."""
    backend: str
    """auto, native (compiled environments) or stock (Meta-World's own classes)."""
    workers: int | None
    """Processes of stock environments; 1 is none beside the main one, null three quarters of the cores."""
    threads: int | None
    """Threads of native environments; null is all cores."""
    torch_threads: int | None
    """Threads of torch; null takes the measured best for the device."""
    compile: str
    """How the update runs: auto (by device), off, inductor (torch.compile) or cuda_graph."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        require_choice("hardware.backend", self.backend, ("auto", "native", "stock"))
        require_choice("hardware.compile", self.compile, ("auto", "off", "inductor", "cuda_graph"))
        known = re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device) is not None
        require(known, f"hardware.device={self.device} is not one of auto, cpu, mps, cuda, cuda:<number>")
        for key in ("workers", "threads", "torch_threads"):
            if getattr(self, key) is not None:
                whole_steps(f"hardware.{key}", getattr(self, key))


@dataclass(slots=True)
class EvaluationConfig:
    """The protocol: deterministic actions, each goal in turn, full episodes, success at any step."""

    every: int | float
    """Environment steps between evaluations."""
    episodes: int
    """Episodes of each task in an evaluation during training; 50 is the official evaluation."""
    final_episodes: int
    """Episodes of each task in the last evaluation, and in the one that confirms ``stop.success``."""
    goals: str
    """train (the run's own 50 goals) or heldout (50 that no run trains on)."""
    copies_per_task: int
    """Environments of each task that evaluate side by side."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        self.every = whole_steps("evaluation.every", self.every)
        require_choice("evaluation.goals", self.goals, GOALS)
        for key in ("episodes", "final_episodes"):
            what = f"evaluation.{key}={getattr(self, key)}"
            require(
                getattr(self, key) >= 1, f"{what} measures nothing: an evaluation needs at least 1 episode"
            )
        whole_steps("evaluation.copies_per_task", self.copies_per_task)


@dataclass(slots=True)
class CheckpointConfig:
    """What is kept of a run."""

    every: int | float
    """Environment steps between checkpoints."""
    minutes: float
    """Minutes between checkpoints, whichever comes first."""
    keep: int
    """Newest checkpoints to keep, beside the best model."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        self.every = whole_steps("checkpoint.every", self.every)
        require_positive("checkpoint.minutes", self.minutes)
        whole_steps("checkpoint.keep", self.keep)


@dataclass(slots=True)
class LoggingConfig:
    """What a run shows and writes while it trains."""

    every: int | float
    """Environment steps between rows of metrics.csv."""
    progress: str
    """auto (a bar on a terminal, lines elsewhere), bar, lines or off."""
    tensorboard: bool
    """Mirror the CSV files to TensorBoard."""
    wandb: str
    """Mirror them to Weights & Biases: off, online, or offline (to be uploaded later with wandb sync)."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        self.every = whole_steps("logging.every", self.every)
        require_choice("logging.progress", self.progress, ("auto", "bar", "lines", "off"))
        require_choice("logging.wandb", self.wandb, ("off", "online", "offline"))


@dataclass(slots=True)
class StopConfig:
    """What ends a run before ``total_steps``."""

    success: float | None
    """Mean success rate of an official evaluation that is enough."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        require_fraction("stop.success", self.success)
