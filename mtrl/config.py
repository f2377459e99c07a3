"""The typed configuration: types and single-value checks; values are in ``conf/``, cross-checks elsewhere.

Nothing here imports torch or MuJoCo: a mistake in a configuration is answered before anything heavy starts.
Step counts accept ``1e6`` and become integers; every frequency is in environment steps.
"""

import re
from dataclasses import dataclass
from math import inf
from typing import Any

from mtrl.tasks import HORIZON

REWARDS = ("v1", "v2")
GOALS = ("train", "heldout")
TRANSFER_PARTS = ("actor", "critic", "temperature", "optimiser", "replay", "normalisation")


class ConfigurationError(ValueError):
    """A configuration that cannot run; the message is one sentence that names the mistake and the mend."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigurationError(message)


def _choice(key: str, value: object, choices: tuple[str, ...], why: str = "") -> None:
    _require(value in choices, f"{key}={value} is not one of {', '.join(choices)}{why}")


def _steps(key: str, value: float, minimum: int = 1) -> int:
    """Return a count given as ``1000`` or ``1e3`` as an integer."""
    _require(float(value).is_integer(), f"{key}={value} must be a whole number")
    _require(value >= minimum, f"{key}={value} must be at least {minimum}")
    return int(value)


def _positive(key: str, value: float | None) -> None:
    _require(value is None or 0 < value < inf, f"{key}={value} must be a finite number greater than 0")


def _fraction(key: str, value: float | None) -> None:
    _require(value is None or 0 <= value <= 1, f"{key}={value} must lie between 0 and 1")


def _layers(key: str, widths: list[int]) -> None:
    valid = bool(widths) and all(width > 0 for width in widths)
    _require(valid, f"{key}={widths} must be a list of one or more widths above 0")


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
        _steps("env.copies_per_task", self.copies_per_task)
        _steps("env.horizon", self.horizon)
        _require(
            self.horizon <= HORIZON,
            f"env.horizon={self.horizon} is over Meta-World's limit: an episode has at most {HORIZON} steps",
        )
        why = ": Meta-World knows two rewards and would silently train on v1 (v3 is the version of its tasks)"
        _choice("env.reward", self.reward, REWARDS, why)


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
    """Updates per ``updates_per``; less than one is allowed (0.1: one update in ten)."""
    updates_per: str
    """"vector_step" (one step of all copies) or "environment_step"."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        self.buffer_size = _steps("algo.buffer_size", self.buffer_size)
        self.learning_starts = _steps("algo.learning_starts", self.learning_starts, 0)
        _steps("algo.batch_size", self.batch_size)
        _steps("algo.n_steps", self.n_steps)
        _positive("algo.learning_rate", self.learning_rate)
        _positive("algo.updates", self.updates)
        _require(self.updates >= 0.001, f"algo.updates={self.updates} must be at least 0.001")
        _fraction("algo.tau", self.tau)
        _fraction("algo.gamma", self.gamma)
        _choice("algo.updates_per", self.updates_per, ("vector_step", "environment_step"))


@dataclass(slots=True)
class SACConfig(AlgoConfig):
    """Soft actor-critic."""

    ent_coef: str | float
    """Temperature: auto, auto_<initial value>, or a fixed number."""
    target_entropy: str | float
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
    """Factor on every reward of a batch."""
    overlap: bool
    """Environments step while the learner updates: the newest transition is seen one update later."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        AlgoConfig.__post_init__(self)
        _choice("algo.temperature", self.temperature, ("shared", "per_task"))
        _choice("algo.reward_scaling", self.reward_scaling, ("none", "per_task"))
        _positive("algo.reward_scale", self.reward_scale)
        _positive("algo.max_gradient_norm", self.max_gradient_norm)
        for key, prefix in (("ent_coef", "auto"), ("target_entropy", "auto")):
            value = str(getattr(self, key))
            known = (
                value.startswith(prefix) or value.lstrip("+-").replace(".", "", 1).replace("e-", "").isdigit()
            )
            _require(known, f"algo.{key}={value} must be auto or a number")


@dataclass(slots=True)
class DDPGConfig(AlgoConfig):
    """Deep deterministic policy gradient."""

    action_noise: float
    """Standard deviation of the Gaussian noise on actions in training."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        AlgoConfig.__post_init__(self)
        _require(self.action_noise >= 0, f"algo.action_noise={self.action_noise} must not be negative")


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
        _steps("algo.policy_delay", self.policy_delay)


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

    def __post_init__(self) -> None:
        """Check each value by itself."""
        _layers("variant.actor_layers", self.actor_layers)
        _layers("variant.critic_layers", self.critic_layers)

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
        _require(known, f"variant.shared_layers={self.shared_layers} must be all or 0 to {layers}")


@dataclass(slots=True)
class CurriculumConfig:
    """Which environment copy plays which task, and when that changes; ``mtrl.stages`` makes stages of it."""

    name: str
    """none: every copy keeps its task; sequential and mixed derive their stages from the difficulties."""
    stages: list[Any]
    """Each a list of tasks, or {task: weight}; empty where ``name`` or ``tables`` say."""
    tables: list[Any]
    """Phases by task set, {steps: [...], shares: {task: [share in each phase]}}; the run's set is taken."""
    thresholds: list[float | None]
    """Mean success over a stage's tasks that ends it, one for each stage but the last, or one for all."""
    steps: list[float | None]
    """Environment steps that end a stage if its threshold has not before; as thresholds."""
    min_steps: int | float
    """Environment steps that a stage lasts at least before its threshold is looked at."""
    check_every: int | float
    """Environment steps between two looks at the success."""
    check_episodes: int
    """Episodes of each task of the stage in a look, deterministic, on the run's own goals."""
    start_stage: int
    """Stage to begin with; a run that is continued is advanced to it."""
    difficulty: dict[str, float]
    """Difficulties that add to, or override, those in ``mtrl.tasks``."""
    copies: int | None
    """Environment copies in all, instead of env.copies_per_task of each task; may be fewer than tasks."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        self.min_steps = _steps("curriculum.min_steps", self.min_steps, 0)
        self.check_every = _steps("curriculum.check_every", self.check_every)
        _steps("curriculum.check_episodes", self.check_episodes)
        for threshold in self.thresholds:
            possible = threshold is None or 0 <= threshold <= 1
            why = "can never be met: a success rate lies between 0 and 1"
            _require(possible, f"curriculum.thresholds={self.thresholds} {why}")
        self.steps = [None if steps is None else _steps("curriculum.steps", steps) for steps in self.steps]
        if self.copies is not None:
            _steps("curriculum.copies", self.copies)
            _require(
                self.name != "none" or bool(self.stages),
                f"curriculum.copies={self.copies} needs a curriculum that hands out the tasks: choose one "
                "with curriculum=..., or set env.copies_per_task",
            )


@dataclass(slots=True)
class AdaptiveCurriculumConfig(CurriculumConfig):
    """Weights that follow the success of each task."""

    floor: float
    """Share of the copies that is always spread evenly, so that no task is forgotten."""
    rate: float
    """Share of the way that the weights move at each look towards where success and progress draw them."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        CurriculumConfig.__post_init__(self)
        _fraction("curriculum.floor", self.floor)
        _fraction("curriculum.rate", self.rate)


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
    """What is taken over: actor, critic, temperature, optimiser, replay, normalisation."""
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
            _choice("transfer.parts", part, TRANSFER_PARTS)
        _choice("transfer.new_tasks", self.new_tasks, ("related", "mean", "fresh"))
        _positive("transfer.learning_rate_multiplier", self.learning_rate_multiplier)
        for part, steps in self.freeze_steps.items():
            _steps(f"transfer.freeze_steps.{part}", steps, 0)
        either = self.source is None or not self.train
        _require(
            either, "transfer.source and transfer.train both name a source: set one of them to null or []"
        )

    @property
    def active(self) -> bool:
        """Whether the run starts from another one."""
        return self.source is not None or bool(self.train)


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
        _choice("hardware.backend", self.backend, ("auto", "native", "stock"))
        _choice("hardware.compile", self.compile, ("auto", "off", "inductor", "cuda_graph"))
        known = re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device) is not None
        _require(known, f"hardware.device={self.device} is not one of auto, cpu, mps, cuda, cuda:<number>")
        for key in ("workers", "threads", "torch_threads"):
            if getattr(self, key) is not None:
                _steps(f"hardware.{key}", getattr(self, key))


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
        self.every = _steps("evaluation.every", self.every)
        _choice("evaluation.goals", self.goals, GOALS)
        for key in ("episodes", "final_episodes"):
            what = f"evaluation.{key}={getattr(self, key)}"
            _require(
                getattr(self, key) >= 1, f"{what} measures nothing: an evaluation needs at least 1 episode"
            )
        _steps("evaluation.copies_per_task", self.copies_per_task)


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
        self.every = _steps("checkpoint.every", self.every)
        _positive("checkpoint.minutes", self.minutes)
        _steps("checkpoint.keep", self.keep)


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
        self.every = _steps("logging.every", self.every)
        _choice("logging.progress", self.progress, ("auto", "bar", "lines", "off"))
        _choice("logging.wandb", self.wandb, ("off", "online", "offline"))


@dataclass(slots=True)
class StopConfig:
    """What ends a run before ``total_steps``."""

    success: float | None
    """Mean success rate of an official evaluation that is enough."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        _fraction("stop.success", self.success)


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
        _require(0 <= self.seed < 2**31, f"seed={self.seed} must lie in 0..{2**31 - 1}")
        self.phases = [_steps("phases", end) for end in self.phases]
        _require(self.phases == sorted(self.phases), f"phases={self.phases} must grow")
        if self.phase is not None:
            known = 1 <= self.phase <= len(self.phases)
            _require(known, f"phase={self.phase} does not exist: phases has {len(self.phases)} ends")
            self.total_steps = self.phases[self.phase - 1]
        self.total_steps = _steps("total_steps", self.total_steps)
        _require(bool(self.output), "output is empty: name a directory for run directories with output=...")

    @property
    def learning_rate(self) -> float:
        """Learning rate of this run: of the algorithm, or that times the transfer's factor."""
        factor = self.transfer.learning_rate_multiplier if self.transfer.active else 1.0
        return self.algo.learning_rate * factor

    @property
    def n_envs(self) -> int:
        """Environments that run side by side."""
        return self.curriculum.copies or len(self.env.tasks) * self.env.copies_per_task
