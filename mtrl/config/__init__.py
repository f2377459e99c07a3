"""The typed configuration: types and single-value checks; values are in ``conf/``, cross-checks elsewhere.

Nothing here imports torch or MuJoCo: a mistake in a configuration is answered before anything heavy starts.
Step counts accept ``1e6`` and become integers; every frequency is in environment steps.
"""

from dataclasses import dataclass

from mtrl.config.algo import OWN_OPTIONS, OWN_SAC, AlgoConfig, DDPGConfig, SACConfig, TD3Config
from mtrl.config.around import (
    GOALS,
    CheckpointConfig,
    EvaluationConfig,
    HardwareConfig,
    LoggingConfig,
    StopConfig,
)
from mtrl.config.curriculum import AdaptiveCurriculumConfig, CurriculumConfig
from mtrl.config.env import REWARDS, EnvConfig
from mtrl.config.transfer import TRANSFER_PARTS, TransferConfig
from mtrl.config.values import ConfigurationError, require, whole_steps
from mtrl.config.variant import MultiheadConfig, PlainConfig, VariantConfig

__all__ = [
    "GOALS",
    "OPTIONS",
    "OWN_OPTIONS",
    "OWN_SAC",
    "REWARDS",
    "TRANSFER_PARTS",
    "AdaptiveCurriculumConfig",
    "AlgoConfig",
    "CheckpointConfig",
    "Config",
    "ConfigurationError",
    "CurriculumConfig",
    "DDPGConfig",
    "EnvConfig",
    "EvaluationConfig",
    "HardwareConfig",
    "LoggingConfig",
    "MultiheadConfig",
    "PlainConfig",
    "SACConfig",
    "StopConfig",
    "TD3Config",
    "TransferConfig",
    "VariantConfig",
]

OPTIONS: dict[str, dict[str, type]] = {
    "algo": {"sac": SACConfig, "td3": TD3Config, "ddpg": DDPGConfig},
    "variant": {"plain": PlainConfig, "shared": VariantConfig, "multihead": MultiheadConfig},
    "curriculum": {"staged": CurriculumConfig, "adaptive": AdaptiveCurriculumConfig},
}
"""The types of the groups whose options differ in their keys; the files name them as ``<name>_schema``."""


@dataclass(slots=True)
class Config:
    """One run."""

    experiment: str
    """Name of the recipe; set by the choice of ``experiment=``."""
    seed: int
    """Decides goals, weights, exploration: everything random."""
    task: str | None
    """The task of a single-task recipe."""
    total_steps: int | float
    """Environment steps to train, over all copies."""
    phase: int | None
    """Train to the end of this phase (1, 2, ...) instead of ``total_steps``."""
    phases: list[int | float]
    """Environment steps at which the phases end."""
    fresh: bool
    """Move an earlier run of the same configuration aside and train anew."""
    dry_run: bool
    """Show what would run, and stop."""
    output: str
    """Directory under which run directories are made."""
    env: EnvConfig
    algo: AlgoConfig
    variant: VariantConfig
    curriculum: CurriculumConfig
    transfer: TransferConfig
    hardware: HardwareConfig
    evaluation: EvaluationConfig
    checkpoint: CheckpointConfig
    logging: LoggingConfig
    stop: StopConfig

    def __post_init__(self) -> None:
        """Check each value by itself."""
        require(0 <= self.seed < 2**31, f"seed={self.seed} must lie in 0..{2**31 - 1}")
        self.phases = [whole_steps("phases", end) for end in self.phases]
        require(self.phases == sorted(self.phases), f"phases={self.phases} must grow")
        if self.phase is not None:
            known = 1 <= self.phase <= len(self.phases)
            require(known, f"phase={self.phase} does not exist: phases has {len(self.phases)} ends")
            self.total_steps = self.phases[self.phase - 1]
        self.total_steps = whole_steps("total_steps", self.total_steps)
        require(bool(self.output), "output is empty: name a directory for run directories with output=...")

    @property
    def learning_rate(self) -> float:
        """Learning rate of this run: of the algorithm, or that times the transfer's factor."""
        factor = self.transfer.learning_rate_multiplier if self.transfer.active else 1.0
        return self.algo.learning_rate * factor

    @property
    def n_envs(self) -> int:
        """Environments that run side by side."""
        return self.curriculum.copies or len(self.env.tasks) * self.env.copies_per_task
