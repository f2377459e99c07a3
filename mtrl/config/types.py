"""The typed configuration: types and checks of single values; values are in ``conf/``, cross-checks elsewhere.

Nothing here imports torch or MuJoCo: a mistake in a configuration is answered before anything heavy starts.
Step counts accept ``1e6`` and become integers; every frequency is in environment steps.
"""

import importlib
import re
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from mtrl.errors import ConfigurationError
from mtrl.tasks import HORIZON


def require(condition: bool, message: str) -> None:
    """Raise ConfigurationError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ConfigurationError(message)


def require_choice(key: str, value: object, choices: tuple[str, ...], why: str = "") -> None:
    """Refuse a value that is none of ``choices``."""
    require(value in choices, f"{key}={value} is not one of {', '.join(choices)}{why}")


def is_number(value: object) -> bool:
    """Tell whether a value of a form without types is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole_steps(key: str, value: float, minimum: int = 1) -> int:
    """Return a count given as ``1000`` or ``1e3`` as an integer; refuse any other."""
    require(is_number(value) and float(value).is_integer(), f"{key}={value} must be a whole number")
    require(value >= minimum, f"{key}={value} must be at least {minimum}")
    return int(value)


def require_positive(key: str, value: float | None) -> None:
    """Refuse a number that is not positive and finite; None is none."""
    require(value is None or 0 < value < inf, f"{key}={value} must be a finite number greater than 0")


def require_not_negative(key: str, value: float) -> None:
    """Refuse a number below 0, an infinite one, and NaN."""
    require(0 <= value < inf, f"{key}={value} must not be negative and must be finite")


def auto_or_number(key: str, value: str | float, *, initial: bool = False) -> str | float:
    """Return ``auto``, or a finite number as a float.

    Args:
        key: The key that holds it.
        value: As it was given.
        initial: Whether ``auto_<number above 0>`` may stand for a learned value that begins there, and any
            number must not be negative.
    """
    text = str(value)
    learned = initial and text.startswith("auto_")
    number = _number(text.removeprefix("auto_") if learned else text)
    if text == "auto" or (learned and number is not None and number > 0):
        return text
    known = number is not None and not learned and (number >= 0 or not initial)
    forms = (
        "auto or a number of at least 0, or auto_<initial value above 0>" if initial else "auto or a number"
    )
    require(known, f"{key}={value} must be {forms}")
    return float(text)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def require_fraction(key: str, value: float | None) -> None:
    """Refuse a number outside of 0 to 1; None is none."""
    require(value is None or 0 <= value <= 1, f"{key}={value} must lie between 0 and 1")


def require_layers(key: str, widths: list[int]) -> None:
    """Refuse widths of layers that make no network."""
    valid = bool(widths) and all(width > 0 for width in widths)
    require(valid, f"{key}={widths} must be a list of one or more widths above 0")


def load_class(path: str) -> type:
    """Return the class at a dotted path.

    Raises:
        ConfigurationError: There is none.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"algo.cls={path} does not exist ({error}): name a class such as stable_baselines3.SAC"
        ) from error
    if not isinstance(found, type):
        raise ConfigurationError(f"algo.cls={path} is not a class: name one such as stable_baselines3.SAC")
    return found


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


REPLAY = ("all", "tasks", "none")


@dataclass(slots=True)
class CurriculumConfig:
    """Which environment copy plays which task, and when that changes; ``mtrl.curriculum.stages`` makes stages of it."""

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
    replay: list[str]
    """Transitions from before a stage that its updates still draw from: all, tasks (those of its own tasks) or none;
    one for each stage but the first, or one for all."""
    start_stage: int
    """Stage to begin with; a run that is continued is advanced to it."""
    difficulty: dict[str, float]
    """Difficulties that add to, or override, those in ``mtrl.tasks``."""
    copies: int | None
    """Environment copies in all, instead of env.copies_per_task of each task; may be fewer than tasks."""

    def __post_init__(self) -> None:
        """Check each value by itself."""
        self.min_steps = whole_steps("curriculum.min_steps", self.min_steps, 0)
        self.check_every = whole_steps("curriculum.check_every", self.check_every)
        whole_steps("curriculum.check_episodes", self.check_episodes)
        for threshold in self.thresholds:
            possible = threshold is None or 0 <= threshold <= 1
            why = "can never be met: a success rate lies between 0 and 1"
            require(possible, f"curriculum.thresholds={self.thresholds} {why}")
        self.steps = [
            None if steps is None else whole_steps("curriculum.steps", steps) for steps in self.steps
        ]
        for kept in self.replay:
            require_choice("curriculum.replay", kept, REPLAY)
        if self.copies is not None:
            whole_steps("curriculum.copies", self.copies)
        if self.name == "none" and not self.stages and not self.tables:
            require(
                self.copies is None,
                f"curriculum.copies={self.copies} needs a curriculum that hands out the tasks: choose one "
                "with curriculum=..., or set env.copies_per_task",
            )
            for key in ("start_stage", "thresholds", "steps", "replay"):
                value = getattr(self, key)
                require(
                    not value,
                    f"curriculum.{key}={value} needs a curriculum: choose one with curriculum=..., or give "
                    "curriculum.stages",
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
        require_fraction("curriculum.floor", self.floor)
        require_fraction("curriculum.rate", self.rate)


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
