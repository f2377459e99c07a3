"""The typed configuration: types and the bounds of single values. The values are in ``conf/``.

A field says with ``key(...)`` what it may hold and whether it decides what is learned; checks across several groups are
in ``mtrl.checks``. Nothing here imports torch or MuJoCo: a mistake is answered before anything heavy starts.
Step counts accept ``1e6`` and become integers; every frequency is in environment steps.
"""

# ruff: noqa: RUF009 (the calls that make fields return fields, which no two objects share)

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from math import inf, isfinite, nan
from typing import Any, ClassVar

from mtrl.errors import ConfigurationError
from mtrl.tasks import HORIZON

Check = Callable[[str, Any], Any]
"""Takes a key and its value and returns the value, or raises ConfigurationError."""


def key(check: Check | None = None, *, learned: bool = True, noted: bool = True, own: bool = False) -> Any:
    """Return a field of the configuration.

    Args:
        check: What its value must be; null is never checked.
        learned: Whether it decides what is learned, and so the name of the run directory.
        noted: Whether a continued run notes that it has changed.
        own: Whether only the project's own algorithm has it, not every class of the same option.
    """
    return field(metadata={"check": check, "learned": learned, "noted": noted, "own": own})


def require(condition: bool, message: str) -> None:
    """Raise ConfigurationError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ConfigurationError(message)


def expect(condition: Callable[[Any], Any], otherwise: str) -> Check:
    """Return the check that ``condition`` holds for a value; ``otherwise`` ends the sentence that refuses it."""

    def check(key: str, value: Any) -> Any:
        require(bool(condition(value)), f"{key}={value} {otherwise}")
        return value

    return check


POSITIVE = expect(lambda value: 0 < value < inf, "must be a finite number greater than 0")
NOT_NEGATIVE = expect(lambda value: 0 <= value < inf, "must not be negative and must be finite")
FRACTION = expect(lambda value: 0 <= value <= 1, "must lie between 0 and 1")
LAYERS = expect(
    lambda widths: bool(widths) and all(width > 0 for width in widths),
    "must be a list of one or more widths above 0",
)
EPISODE_LENGTH = expect(
    lambda value: 1 <= value <= HORIZON,
    f"must be at least 1 and at most {HORIZON}, Meta-World's limit of an episode",
)
EPISODES = expect(lambda value: value >= 1, "measures nothing: an evaluation needs at least 1 episode")


def one_of(*choices: str, why: str = "") -> Check:
    """Return the check of a word."""
    return expect(lambda value: value in choices, f"is not one of {', '.join(choices)}{why}")


def is_number(value: object) -> bool:
    """Return whether a value of unknown type is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole_steps(key: str, value: float, minimum: int = 1) -> int:
    """Return a count given as ``1000`` or ``1e3`` as an integer; refuse any other."""
    require(is_number(value) and float(value).is_integer(), f"{key}={value} must be a whole number")
    require(value >= minimum, f"{key}={value} must be at least {minimum}")
    return int(value)


def whole(minimum: int = 1) -> Check:
    """Return the check of a count."""
    return partial(whole_steps, minimum=minimum)


def each(check: Check) -> Check:
    """Return the check of a list or table, each of whose entries is null or must pass ``check``."""

    def check_each(key: str, values: Any) -> Any:
        if isinstance(values, dict):
            return {name: check(f"{key}.{name}", value) for name, value in values.items()}
        return [None if value is None else check(key, value) for value in values]

    return check_each


def auto_or_number(key: str, value: str | float, *, temperature: bool = False) -> str | float:
    """Return ``auto``, or a finite number as a float.

    A temperature may be ``auto_<number above 0>``, a learned value that begins there, and is not negative.
    """
    text = str(value)
    learned = temperature and text.startswith("auto_")
    try:
        number = float(text.removeprefix("auto_") if learned else text)
    except ValueError:
        number = nan
    if text == "auto" or (learned and 0 < number < inf):
        return text
    forms = "a number of at least 0, or auto_<initial value above 0>" if temperature else "a number"
    known = isfinite(number) and not learned and (number >= 0 or not temperature)
    require(known, f"{key}={value} must be auto or {forms}")
    return number


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


@dataclass(slots=True)
class Group:
    """A group of keys, each checked by itself as the group is made."""

    def __post_init__(self) -> None:
        """Check each value by itself; subclasses add what concerns several of their keys."""
        group = next((f"{each.name}." for each in fields(Config) if each.type in type(self).__mro__), "")
        for each in fields(self):
            check, value = each.metadata.get("check"), getattr(self, each.name)
            if check is not None and value is not None:
                setattr(self, each.name, check(f"{group}{each.name}", value))


@dataclass(slots=True)
class AlgoConfig(Group):
    """What every off-policy algorithm has."""

    built_in: ClassVar[tuple[str, ...]] = ()
    """Dotted paths of the classes that take these keys; the last is stable-baselines3's, the head of the family."""
    compiling: ClassVar[str | None] = None
    """Dotted path of the class that can compile its update, which stable-baselines3's cannot."""

    cls: str
    """Dotted path of the algorithm's class, of stable-baselines3's interface."""
    kwargs: dict[str, Any]
    """Further arguments of a foreign class, checked against its constructor."""
    learning_rate: float = key(POSITIVE)
    """Of Adam, for all networks."""
    buffer_size: int | float = key(whole())
    """Transitions in the replay buffer, over all environments."""
    learning_starts: int | float = key(whole(0))
    """Environment steps of random actions before the first update."""
    batch_size: int = key(whole())
    """Transitions of an update."""
    tau: float = key(FRACTION)
    """Share of the networks that moves into their targets at each update."""
    gamma: float = key(FRACTION)
    """Discount."""
    n_steps: int = key(whole())
    """Steps of the return that an update looks ahead."""
    updates: int | float = key(
        expect(lambda value: 0.001 <= value < inf, "must be a finite number of at least 0.001")
    )
    """Updates per ``updates_per``, met within 1 %; less than one is allowed (0.1: one update in ten)."""
    updates_per: str = key(one_of("vector_step", "environment_step"))
    """"vector_step" (one step of all copies) or "environment_step"."""

    @property
    def compiles(self) -> bool:
        """Whether the class can compile its update."""
        return self.cls == self.compiling


@dataclass(slots=True)
class SACConfig(AlgoConfig):
    """Soft actor-critic."""

    built_in: ClassVar[tuple[str, ...]] = ("mtrl.algo.SAC", "stable_baselines3.SAC")
    compiling: ClassVar[str | None] = "mtrl.algo.SAC"

    ent_coef: str | int | float = key(partial(auto_or_number, temperature=True))
    """Temperature: auto, auto_<initial value>, or a fixed number."""
    target_entropy: str | int | float = key(auto_or_number)
    """auto (minus the number of action dimensions) or a number."""
    temperature: str = key(one_of("shared", "per_task"), own=True)
    """shared, or per_task: one temperature for each task."""
    balanced_batches: bool = key(own=True)
    """The same number of transitions of each task in every batch."""
    max_gradient_norm: float | None = key(POSITIVE, own=True)
    """Gradients of actor and critic are clipped to this norm."""
    reward_scaling: str = key(one_of("none", "per_task", "return"), own=True)
    """none; per_task: rewards are scaled so that tasks weigh alike; return: divided by the size of their returns."""
    reward_scale: float = key(POSITIVE, own=True)
    """Factor on every reward of a batch, on top of that."""
    max_reward_ratio: float = key(
        expect(lambda value: 1 <= value < inf, "must be a finite number of at least 1"), own=True
    )
    """Largest factor by which per-task scaling lifts a task above the one with the largest mean reward."""
    reward_scales_every: int = key(whole(), own=True)
    """Updates between two looks of reward scaling at the rewards."""
    adam_epsilon: float = key(POSITIVE, own=True)
    """What Adam adds to its denominators."""
    overlap: bool = key(own=True)
    """Environments step while the learner updates: the newest transition is seen one update later."""

    def __post_init__(self) -> None:
        """Check each value, and that a temperature for each task is learned."""
        AlgoConfig.__post_init__(self)
        require(
            self.temperature == "shared" or isinstance(self.ent_coef, str),
            f"algo.ent_coef={self.ent_coef} fixes the temperature, and algo.temperature=per_task learns one for "
            "each task: use algo.temperature=shared or algo.ent_coef=auto",
        )


OWN_OPTIONS = tuple(option.name for option in fields(SACConfig) if option.metadata.get("own"))
"""Keys of ``algo=sac`` that only the project's own SAC has; the values in ``conf/algo/sac.yaml`` turn them off."""


@dataclass(slots=True)
class DDPGConfig(AlgoConfig):
    """Deep deterministic policy gradient."""

    built_in: ClassVar[tuple[str, ...]] = ("stable_baselines3.DDPG",)

    action_noise: float = key(NOT_NEGATIVE)
    """Standard deviation of the Gaussian noise on actions in training."""


@dataclass(slots=True)
class TD3Config(DDPGConfig):
    """Twin delayed deep deterministic policy gradient."""

    built_in: ClassVar[tuple[str, ...]] = ("stable_baselines3.TD3",)

    policy_delay: int = key(whole())
    """Critic updates per actor update."""
    target_policy_noise: float = key(NOT_NEGATIVE)
    """Standard deviation of the noise on target actions."""
    target_noise_clip: float = key(NOT_NEGATIVE)
    """Bound of that noise."""


DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(slots=True)
class HardwareConfig(Group):
    """What the run uses of the machine; nothing here changes a hyperparameter."""

    device: str = key(expect(DEVICE.fullmatch, "is not one of auto, cpu, mps, cuda, cuda:<number>"))
    """auto, cpu, cuda or cuda:<n>: where the networks and the replay buffer live."""
    backend: str = key(one_of("auto", "native", "stock"))
    """auto, native (compiled environments) or stock (Meta-World's own classes)."""
    workers: int | None = key(whole())
    """Processes of stock environments; 1 is none besides the main one, null three quarters of the cores."""
    threads: int | None = key(whole())
    """Threads of native environments; null is all cores."""
    torch_threads: int | None = key(whole())
    """Threads of torch; null takes the measured best for the device."""
    compile: str = key(one_of("auto", "off", "inductor", "cuda_graph"))
    """How the update runs: auto (by device), off, inductor (torch.compile) or cuda_graph."""


GOALS = ("train", "heldout")


@dataclass(slots=True)
class EvaluationConfig(Group):
    """The protocol: deterministic actions, each goal in turn, full episodes, success at any step."""

    every: int | float = key(whole())
    """Environment steps between evaluations."""
    episodes: int = key(EPISODES)
    """Episodes of each task in an evaluation during training; 50 is the official evaluation."""
    final_episodes: int = key(EPISODES)
    """Episodes of each task in the last evaluation, and in the one that confirms ``stop.success``."""
    horizon: int = key(EPISODE_LENGTH)
    """Length of an episode in environment steps: Meta-World's 500, however long those of training are."""
    goals: str = key(one_of(*GOALS))
    """train (the run's own 50 goals) or heldout (50 that no run trains on)."""
    copies_per_task: int = key(whole())
    """Environments of each task that evaluate side by side."""


@dataclass(slots=True)
class CheckpointConfig(Group):
    """What is kept of a run."""

    every: int | float = key(whole())
    """Environment steps between checkpoints."""
    minutes: float = key(POSITIVE)
    """Minutes between checkpoints, whichever comes first."""
    keep: int = key(whole())
    """Newest checkpoints to keep, besides the best model."""


@dataclass(slots=True)
class LoggingConfig(Group):
    """What a run shows and writes while it trains."""

    every: int | float = key(whole())
    """Environment steps between rows of metrics.csv."""
    progress: str = key(one_of("auto", "bar", "lines", "off"))
    """auto (a bar on a terminal, lines elsewhere), bar, lines or off."""
    tensorboard: bool
    """Mirror the CSV files to TensorBoard."""
    wandb: str = key(one_of("off", "online", "offline"))
    """Mirror them to Weights & Biases: off, online, or offline (to be uploaded later with wandb sync)."""


@dataclass(slots=True)
class StopConfig(Group):
    """What ends a run before ``total_steps``."""

    success: float | None = key(FRACTION)
    """Mean success rate of an official evaluation that is enough."""


@dataclass(slots=True)
class CurriculumConfig(Group):
    """Which environment copy plays which task, and when that changes; ``mtrl.curriculum.stages`` makes stages of it."""

    name: str
    """none: every copy keeps its task; sequential and mixed derive their stages from the difficulties."""
    stages: list[Any]
    """Each a list of tasks, or {task: weight}; empty where ``name`` or ``tables`` say."""
    tables: list[Any]
    """Stages for several task sets, each {stages: [...], steps: [...]}: those for exactly the run's tasks hold."""
    thresholds: list[float | None] = key(
        each(expect(lambda value: 0 <= value <= 1, "can never be met: a success rate lies between 0 and 1"))
    )
    """Mean success over a stage's tasks that ends it, one for each stage but the last, or one for all."""
    steps: list[float | None] = key(each(whole()))
    """Environment steps that end a stage if its threshold has not before; as thresholds."""
    min_steps: int | float = key(whole(0))
    """Environment steps that a stage lasts at least before its threshold is looked at."""
    check_every: int | float = key(whole())
    """Environment steps between two looks at the success."""
    check_episodes: int = key(whole())
    """Episodes of each task of the stage in a look, deterministic, on the run's own goals."""
    replay: list[str] = key(each(one_of("all", "tasks", "none")))
    """Transitions from before a stage that its updates still draw from: all, tasks (those of its own tasks) or none;
    one for each stage but the first, or one for all."""
    start_stage: int = key(learned=False)
    """Stage to begin with; a run that is continued is advanced to it."""
    difficulty: dict[str, float]
    """Difficulties that add to, or override, those in ``mtrl.tasks``."""
    copies: int | None = key(whole())
    """Environment copies in all, instead of env.copies_per_task of each task; may be fewer than tasks."""

    def __post_init__(self) -> None:
        """Check each value, and that what belongs to a curriculum has one."""
        Group.__post_init__(self)
        if self.name != "none" or self.stages or self.tables:
            return
        require(
            self.copies is None,
            f"curriculum.copies={self.copies} needs a curriculum that hands out the tasks: choose one "
            "with curriculum=..., or set env.copies_per_task",
        )
        for name in ("start_stage", "thresholds", "steps", "replay"):
            value = getattr(self, name)
            require(
                not value,
                f"curriculum.{name}={value} needs a curriculum: choose one with curriculum=..., or give "
                "curriculum.stages",
            )


@dataclass(slots=True)
class AdaptiveCurriculumConfig(CurriculumConfig):
    """Weights that follow the success of each task."""

    floor: float = key(FRACTION)
    """Share of the copies that is always spread evenly, so that no task is forgotten."""
    rate: float = key(FRACTION)
    """Share of the way that the weights move at each look towards where success and progress draw them."""


REWARDS = ("v1", "v2")
_V3 = ": Meta-World knows two rewards and would silently train on v1 (v3 is the version of its tasks)"


@dataclass(slots=True)
class EnvConfig(Group):
    """The environments."""

    tasks: list[str]
    """The task set; a task's place in it is its id."""
    copies_per_task: int = key(whole())
    """Environments of each task that run side by side."""
    horizon: int = key(EPISODE_LENGTH)
    """Length of an episode in environment steps, a truncation; at most Meta-World's 500."""
    reward: str = key(one_of(*REWARDS, why=_V3))
    """Meta-World's reward version: v2 (0..10 a step) or v1 (up to 10^6 an episode)."""
    terminate_on_success: bool
    """End an episode when the task is solved (Meta-World calls this unstable in training)."""
    normalize_observations: bool
    """Running mean and variance over the observation, never over the task's one-hot."""
    normalize_reward: bool
    """Divide the reward by the running deviation of the return."""


TRANSFER_PARTS = ("actor", "critic", "temperature", "optimiser", "replay", "normalisation")


@dataclass(slots=True)
class TransferConfig(Group):
    """What the networks start from, where that is another run."""

    source: str | None = key(learned=False)
    """A run directory (its best model), a checkpoint, or a zip of stable-baselines3; null starts from scratch."""
    train: list[str] = key(learned=False)
    """Overrides of a run that is trained first, if it is not yet, and is then the source."""
    source_tasks: list[str]
    """Tasks of a zip in the order of its one-hot; a run directory knows its own."""
    parts: list[str] = key(each(one_of(*TRANSFER_PARTS)))
    """What is taken over: actor, critic, temperature, optimiser, replay, normalisation; with the actor, it acts from
    the first step on, and algo.learning_starts says only when updates begin."""
    new_tasks: str = key(one_of("related", "mean", "fresh"))
    """Tasks that the source lacks begin like the most related of its tasks, their mean, or fresh."""
    learning_rate_multiplier: float = key(POSITIVE)
    """Factor on algo.learning_rate."""
    freeze_steps: dict[str, float] = key(each(whole(0)))
    """Environment steps for which actor, critic and temperature stay as they came."""
    baseline: bool = key(learned=False)
    """Train the same run from scratch, too, and compare the two."""

    def __post_init__(self) -> None:
        """Check each value, and that source and parts go together."""
        Group.__post_init__(self)
        if self.active:
            require(bool(self.parts), "transfer.parts=[] takes nothing from the source: name actor or critic")
            alone = "optimiser" in self.parts and not {"actor", "critic"} & set(self.parts)
            require(
                not alone,
                f"transfer.parts={self.parts} has the optimiser of neither actor nor critic: name one of them, too",
            )
        require(
            self.active or not self.baseline,
            "transfer.baseline=true compares with a run from scratch, and this is one: name what it begins "
            "from with transfer.source or transfer.train",
        )
        require(
            self.source is None or not self.train,
            "transfer.source and transfer.train both name a source: set one of them to null or []",
        )

    @property
    def active(self) -> bool:
        """Whether the run starts from another one."""
        return self.source is not None or bool(self.train)


@dataclass(slots=True)
class VariantConfig(Group):
    """The networks, and how they know the task."""

    task_id: ClassVar[bool] = True
    """Whether the observation carries the task's one-hot."""

    name: str
    """plain (no task id), shared (one-hot task id), multihead (one-hot task id and a critic per task)."""
    actor_layers: list[int] = key(LAYERS)
    """Widths of the actor's hidden layers."""
    critic_layers: list[int] = key(LAYERS)
    """Widths of the hidden layers of each critic."""
    layer_norm: bool
    """LayerNorm after each hidden layer of the critics."""
    initialisation: str = key(one_of("torch", "metaworld_algorithms"))
    """First weights: torch (as stable-baselines3) or metaworld_algorithms (He-uniform, outputs near 0)."""


@dataclass(slots=True)
class PlainConfig(VariantConfig):
    """One network for all tasks, which is not told the task."""

    task_id: ClassVar[bool] = False


@dataclass(slots=True)
class MultiheadConfig(VariantConfig):
    """A critic, and optionally an actor, per task."""

    shared_layers: int | str
    """Hidden layers that the critics of all tasks share: 0 is separate critics, all one linear head each."""
    actor_heads: bool
    """A linear head per task in the actor too."""

    def __post_init__(self) -> None:
        """Check each value, and that the critics have as many layers as they share."""
        VariantConfig.__post_init__(self)
        n_layers, shared = len(self.critic_layers), self.shared_layers
        known = shared == "all" or (isinstance(shared, int) and 0 <= shared <= n_layers)
        require(known, f"variant.shared_layers={shared} must be all or 0 to {n_layers}")


OPTIONS: dict[str, dict[str, type]] = {
    "algo": {"sac": SACConfig, "td3": TD3Config, "ddpg": DDPGConfig},
    "variant": {"plain": PlainConfig, "shared": VariantConfig, "multihead": MultiheadConfig},
    "curriculum": {"staged": CurriculumConfig, "adaptive": AdaptiveCurriculumConfig},
}
"""The types of the groups whose options differ in their keys; the files name them as ``<name>_schema``."""


@dataclass(slots=True)
class Config(Group):
    """One run."""

    experiment: str = key(learned=False, noted=False)
    """Name of the recipe; set by the choice of ``experiment=``."""
    seed: int = key(
        expect(lambda value: 0 <= value < 2**31, f"must lie in 0..{2**31 - 1}"), learned=False, noted=False
    )
    """Decides goals, weights, exploration: everything random."""
    task: str | None
    """The task of a single-task recipe."""
    total_steps: int | float = key(learned=False)
    """Environment steps to train, over all copies."""
    phase: int | None = key(learned=False, noted=False)
    """Train to the end of this phase (1, 2, ...) instead of ``total_steps``."""
    phases: list[int | float] = key(each(whole()), learned=False)
    """Environment steps at which the phases end."""
    fresh: bool = key(learned=False, noted=False)
    """Move an earlier run of the same configuration aside and train from scratch."""
    dry_run: bool = key(learned=False, noted=False)
    """Show what would run, and stop."""
    output: str = key(learned=False, noted=False)
    """Directory under which run directories are made."""
    env: EnvConfig
    algo: AlgoConfig
    variant: VariantConfig
    curriculum: CurriculumConfig
    transfer: TransferConfig
    hardware: HardwareConfig = key(learned=False)
    evaluation: EvaluationConfig = key(learned=False)
    checkpoint: CheckpointConfig = key(learned=False)
    logging: LoggingConfig = key(learned=False)
    stop: StopConfig = key(learned=False)

    def __post_init__(self) -> None:
        """Check each value, and set ``total_steps`` to the end of the phase asked for."""
        Group.__post_init__(self)
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


def is_learned(key: str) -> bool:
    """Return whether a flat key decides what is learned; one that does not exist any more is taken to."""
    return _says(key, "learned")


def is_noted(key: str) -> bool:
    """Return whether a continued run notes that the value of a flat key has changed."""
    return _says(key, "noted")


def _says(key: str, attribute: str) -> bool:
    """Return what the fields of a key say, those of its group and of all the group's options."""
    group, _, rest = key.partition(".")
    named = Config.__dataclass_fields__.get(group)
    owners = [named.type, *OPTIONS.get(group, {}).values()] if named else []
    name = rest.partition(".")[0]
    found = [named, *(getattr(owner, "__dataclass_fields__", {}).get(name) for owner in owners)]
    return all(each.metadata.get(attribute, True) for each in found if each is not None)
