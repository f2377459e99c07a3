"""The typed configuration: types, meanings and the bounds of single values. The values are in ``conf/``.

A field says with ``key(...)`` what it means, what it may hold and whether it decides what is learned; checks across
several keys are in ``mtrl.checks``. Nothing here imports torch or MuJoCo: a mistake is answered before anything heavy
starts. Step counts accept ``1e6`` and become integers; every frequency is in environment steps.
"""

# ruff: noqa: RUF009 (the calls that make fields return fields, which no two objects share)

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from itertools import pairwise
from math import inf, isfinite, nan
from types import NoneType, UnionType
from typing import Any, ClassVar, get_args, get_origin

from mtrl.config.values import read
from mtrl.errors import ConfigurationError
from mtrl.tasks import HORIZON, OBSERVATION_SIZE

Count = int | float
Check = Callable[[str, Any], Any]
"""Takes a key and its value and returns the value, or raises ConfigurationError."""


def key(
    meaning: str = "", check: Check | None = None, learned: bool = True, noted: bool = True, own: bool = False
) -> Any:
    """Return a field of the configuration.

    Args:
        meaning: What it is, for ``docs/options.md``.
        check: What its value must be; null is never checked.
        learned: Whether it decides what is learned, and so the name of the run directory.
        noted: Whether a continued run notes that it has changed.
        own: Whether only the project's own algorithm has it, not every class of the same option.
    """
    says = {"learned": learned, "noted": noted, "own": own}
    return field(metadata={"meaning": meaning, "check": check, **says})


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


def one_of(*choices: str, why: str = "") -> Check:
    """Return the check of a word."""
    return expect(lambda value: value in choices, f"is not one of {', '.join(choices)}{why}")


LARGEST = 1e9
"""Of the numbers that are multiplied with what is learned: their squares still fit float32."""


def finite(minimum: float, maximum: float = LARGEST) -> Check:
    """Return the check of a number with bounds."""
    bounds = f"must be a finite number of at least {minimum} and at most {maximum:g}"
    return expect(lambda value: minimum <= value <= maximum, bounds)


def is_number(value: object) -> bool:
    """Return whether a value of unknown type is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(minimum: int = 1, maximum: int = 10**15) -> Check:
    """Return the check of a count given as ``1000`` or ``1e3``, which becomes an integer."""

    def check(key: str, value: Any) -> int:
        known = is_number(value) and isfinite(value) and value == int(value)
        require(known, f"{key}={value} must be a whole number")
        require(value >= minimum, f"{key}={value} must be at least {minimum}")
        require(value <= maximum, f"{key}={value} must be at most {maximum}")
        return int(value)

    return check


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
    if text == "auto" or (learned and 0 < number <= LARGEST):
        return text
    forms = "a number of at least 0, or auto_<initial value above 0>" if temperature else "a number"
    known = abs(number) <= LARGEST and not learned and (number >= 0 or not temperature)
    require(known, f"{key}={value} must be auto or {forms}")
    return number


def layers(key: str, widths: list[int]) -> list[int]:
    """Return the widths of hidden layers that a network of some sense has."""
    known = 0 < len(widths) <= 64 and min(widths) > 0 and max(widths) <= 2**16
    shown = widths if len(widths) <= 64 else f"[{len(widths)} layers]"
    memory = 4 * sum(inputs * outputs for inputs, outputs in pairwise([OBSERVATION_SIZE, *widths])) / 2**30
    bounds = f"a list of one or more widths above 0, of at most 64 of at most {2**16}"
    require(known, f"{key}={shown} must be {bounds}; these weights alone would take {memory:,.1f} GiB")
    return widths


def load_class(path: str) -> type:
    """Return the class at a dotted path; ConfigurationError if there is none."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module of anybody's may raise anything
        raise no_such_class(path, error) from error
    require(
        isinstance(found, type), f"algo.cls={path} is not a class: name one such as stable_baselines3.SAC"
    )
    return found


def no_such_class(path: str, error: Exception) -> ConfigurationError:
    """Return the error that says why there is no class at a dotted path."""
    fix = "name a class such as stable_baselines3.SAC"
    return ConfigurationError(f"algo.cls={path} does not exist ({error}): {fix}")


TEMPERATURE = partial(auto_or_number, temperature=True)
DEVICE = expect(
    re.compile(r"auto|cpu|mps|cuda(:\d+)?").fullmatch, "is not one of auto, cpu, mps, cuda, cuda:<number>"
)
_BOUNDS = f"must be at least 1 and at most {HORIZON}, Meta-World's limit of an episode"
EPISODE_LENGTH = expect(lambda value: 1 <= value <= HORIZON, _BOUNDS)
EPISODES = expect(
    lambda value: 1 <= value <= 10**6,
    "measures nothing: an evaluation needs at least 1 episode, at most a million",
)
FRACTION = expect(lambda value: 0 <= value <= 1, "must lie between 0 and 1")
RATE = expect(lambda value: 0 < value <= 10, "must be a finite number greater than 0 and at most 10")
SCALE = finite(1e-6, 1e6)
NOT_NEGATIVE = expect(
    lambda value: 0 <= value <= LARGEST, "must not be negative and must be finite, at most 1e9"
)
FINITE = expect(isfinite, "must be a finite number")
POSITIVE = expect(lambda value: 0 < value <= LARGEST, "must be a finite number greater than 0, at most 1e9")
SOME = whole(maximum=10_000)
"""Of environments."""
_THREADS = whole(maximum=1024)
_V3 = ": Meta-World knows two rewards and would silently train on v1 (v3 is the version of its tasks)"
REWARD = one_of("v1", "v2", why=_V3)
SEED = expect(lambda value: 0 <= value < 2**31, f"must lie in 0..{2**31 - 1}")
SUCCESS = expect(lambda value: 0 <= value <= 1, "can never be met: a success rate lies between 0 and 1")
GOALS = ("train", "heldout")


@dataclass(slots=True)
class Group:
    """A group of keys, each converted to its type and checked by itself as the group is made."""

    def __post_init__(self) -> None:
        group = next((f"{each.name}." for each in fields(Config) if each.type in type(self).__mro__), "")
        for each in fields(self):
            name, check = f"{group}{each.name}", each.metadata.get("check")
            value = _converted(name, each.type, getattr(self, each.name))
            setattr(self, each.name, value if check is None or value is None else check(name, value))


def _converted(name: str, kind: Any, value: Any) -> Any:
    """Return a value as one of a type, wherever it comes from: text stands for what it would on the command line."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if isinstance(value, str) and str not in kinds and Any not in kinds:
        value = {"yes": True, "on": True, "no": False, "off": False}.get(value, read(value))
    if type(value) is int and abs(value) > 1e300:
        value = inf
    for each in kinds:
        known = get_origin(each) or each
        if known is Any or is_dataclass(known) or (value is None and known is NoneType):
            return value
        if known is list and isinstance(value, list):
            return [_converted(f"{name}[{i}]", get_args(each)[0], entry) for i, entry in enumerate(value)]
        if known is dict and isinstance(value, dict):
            kind = get_args(each)[1]
            return {str(entry): _converted(f"{name}.{entry}", kind, value[entry]) for entry in value}
        if type(value) is known:
            return value
        if known is float and type(value) is int and int not in kinds:
            return float(value)
        if known is str and isinstance(value, int | float) and not {int, float} & {*kinds}:
            return str(value)
    raise ConfigurationError(f"{name} has the wrong type: {value} is given; give {in_words(kind)}")


def in_words(kind: Any) -> str:
    """Return in words what a key of a type takes."""
    if isinstance(kind, UnionType):
        parts = [part for part in get_args(kind) if not (part is int and float in get_args(kind))]
        return " or ".join(map(in_words, parts))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", NoneType: "null"}
    words |= {list: "a list such as [a,b]", dict: "a table such as {a:1}"}
    return words.get(get_origin(kind) or kind, "another value")


@dataclass(slots=True)
class AlgoConfig(Group):
    """What every off-policy algorithm has."""

    built_in: ClassVar[tuple[str, ...]] = ()
    """Dotted paths of the classes that take these keys; the last is stable-baselines3's, the head of the family."""
    compiling: ClassVar[str | None] = None
    """Dotted path of the class that can compile its update, which stable-baselines3's cannot."""

    cls: str = key("Dotted path of the algorithm's class, of stable-baselines3's interface.")
    kwargs: dict[str, Any] = key("Further arguments of a foreign class, checked against its constructor.")
    learning_rate: float = key("Of Adam, for all networks.", RATE)
    buffer_size: Count = key("Transitions in the replay buffer, over all environments.", whole())
    learning_starts: Count = key("Environment steps of random actions before the first update.", whole(0))
    batch_size: int = key("Transitions of an update.", whole())
    tau: float = key("Share of the networks that moves into their targets at each update.", FRACTION)
    gamma: float = key("Discount.", FRACTION)
    n_steps: int = key("Steps of the return that an update looks ahead.", whole(maximum=HORIZON))
    updates: Count = key(
        "Updates per ``updates_per``, within 1 %; 0.1 is one update in ten.", finite(0.001, 1000)
    )
    updates_per: str = key(
        "vector_step (of all copies at once) or environment_step.", one_of("vector_step", "environment_step")
    )

    @property
    def compiles(self) -> bool:
        """Whether the class can compile its update."""
        return self.cls == self.compiling


@dataclass(slots=True)
class SACConfig(AlgoConfig):
    """Soft actor-critic."""

    built_in: ClassVar[tuple[str, ...]] = ("mtrl.algo.SAC", "stable_baselines3.SAC")
    compiling: ClassVar[str | None] = "mtrl.algo.SAC"

    ent_coef: str | int | float = key("Temperature: auto, auto_<initial value>, or a number.", TEMPERATURE)
    target_entropy: str | int | float = key("auto (minus the action's size) or a number.", auto_or_number)
    temperature: str = key("shared, or per_task: one for each task.", one_of("shared", "per_task"), own=True)
    balanced_batches: bool = key("The same number of transitions of each task in every batch.", own=True)
    max_gradient_norm: float | None = key(
        "Largest norm of the gradient of actor, critic.", POSITIVE, own=True
    )
    reward_scaling: str = key(
        "none; per_task: tasks weigh alike; return: rewards are divided by the size of their returns.",
        one_of("none", "per_task", "return"),
        own=True,
    )
    reward_scale: float = key("Factor on every reward of a batch, on top of that.", SCALE, own=True)
    max_reward_ratio: float = key(
        "Largest factor of per_task over that of the largest mean reward.", finite(1, 1e6), own=True
    )
    reward_scales_every: int = key("Updates between two looks at the rewards for scaling.", whole(), own=True)
    adam_epsilon: float = key("What Adam adds to its denominators.", RATE, own=True)
    decay_factor: float = key(
        "Factor on the learning rate after decay_steps; 1 keeps it as it is.",
        expect(lambda value: 0 < value <= 1, "must be greater than 0 and at most 1"),
        own=True,
    )
    decay_steps: list[Count] = key(
        "Environment steps at which that decay begins and ends; between them it is geometric.",
        expect(
            lambda steps: len(steps) == 2 and 0 <= steps[0] <= steps[1] <= 1e15,
            "must be [begin, end], growing",
        ),
        own=True,
    )
    overlap: bool = key(
        "Environments step during an update, which sees the newest transition one later.", own=True
    )


OWN_OPTIONS = tuple(option.name for option in fields(SACConfig) if option.metadata.get("own"))
"""Keys of ``algo=sac`` that only the project's own SAC has; the values in ``conf/algo/sac.yaml`` turn them off."""


@dataclass(slots=True)
class DDPGConfig(AlgoConfig):
    """Deep deterministic policy gradient."""

    built_in: ClassVar[tuple[str, ...]] = ("stable_baselines3.DDPG",)

    action_noise: float = key("Standard deviation of the Gaussian noise on actions.", NOT_NEGATIVE)


@dataclass(slots=True)
class TD3Config(DDPGConfig):
    """Twin delayed deep deterministic policy gradient."""

    built_in: ClassVar[tuple[str, ...]] = ("stable_baselines3.TD3",)

    policy_delay: int = key("Critic updates per actor update.", whole())
    target_policy_noise: float = key("Standard deviation of the noise on target actions.", NOT_NEGATIVE)
    target_noise_clip: float = key("Bound of that noise.", NOT_NEGATIVE)


@dataclass(slots=True)
class HardwareConfig(Group):
    """What the run uses of the machine; nothing here changes a hyperparameter."""

    device: str = key("Where networks and replay buffer live: auto, cpu, mps, cuda or cuda:<n>.", DEVICE)
    backend: str = key(
        "auto, native (compiled environments) or stock (Meta-World's own).", one_of("auto", "native", "stock")
    )
    workers: int | None = key(
        "Processes of stock environments; 1 is the main one, null 3/4 of the cores.", _THREADS
    )
    threads: int | None = key("Threads of native environments; null is all cores.", _THREADS)
    torch_threads: int | None = key("Threads of torch; null takes the measured best.", _THREADS)
    compile: str = key(
        "How the update runs: auto (by device), off, inductor (torch.compile) or cuda_graph.",
        one_of("auto", "off", "inductor", "cuda_graph"),
    )


@dataclass(slots=True)
class EvaluationConfig(Group):
    """The protocol: deterministic actions, each goal in turn, full episodes, success at any step."""

    every: Count = key("Environment steps between evaluations.", whole())
    episodes: int = key("Episodes of each task in an evaluation during training; official are 50.", EPISODES)
    final_episodes: int = key(
        "Episodes of each task in the last evaluation, and to confirm ``stop.success``.", EPISODES
    )
    horizon: int = key(
        "Environment steps of an episode: Meta-World's 500, whatever env.horizon.", EPISODE_LENGTH
    )
    goals: str = key("train (the run's own 50 goals) or heldout (50 that no run trains on).", one_of(*GOALS))
    copies_per_task: int = key("Environments of each task that evaluate side by side.", SOME)


@dataclass(slots=True)
class CheckpointConfig(Group):
    """What is kept of a run."""

    every: Count = key("Environment steps between checkpoints.", whole())
    minutes: float = key("Minutes between checkpoints, whichever comes first.", POSITIVE)
    keep: int = key("Newest checkpoints to keep, besides the best model.", whole())


@dataclass(slots=True)
class LoggingConfig(Group):
    """What a run shows and writes while it trains."""

    every: Count = key("Environment steps between rows of metrics.csv.", whole())
    progress: str = key(
        "auto (a bar on terminals, lines elsewhere), bar, lines or off.",
        one_of("auto", "bar", "lines", "off"),
    )
    tensorboard: bool = key("Mirror the CSV files to TensorBoard.")
    wandb: str = key(
        "Mirror them to Weights & Biases: off, online, or offline (upload later with wandb sync).",
        one_of("off", "online", "offline"),
    )


@dataclass(slots=True)
class StopConfig(Group):
    """What ends a run before ``total_steps``."""

    success: float | None = key("Mean success rate of an official evaluation that is enough.", FRACTION)


@dataclass(slots=True)
class CurriculumConfig(Group):
    """Which environment copy plays which task, and when that changes; ``mtrl.curriculum.stages`` makes stages of it."""

    name: str = key("none: every copy keeps its task; sequential and mixed have stages by difficulty.")
    stages: list[Any] = key("Each a list of tasks or {task: weight}; empty where ``name`` or ``tables`` say.")
    tables: list[Any] = key(
        "Stages for several task sets, each {stages: [...], steps: [...]}: those for exactly the run's tasks hold."
    )
    thresholds: list[float | None] = key(
        "Mean success over a stage's tasks that ends it, one for each stage but the last, or one for all.",
        each(SUCCESS),
    )
    steps: list[float | None] = key(
        "Environment steps that end a stage if its threshold has not; as thresholds.", each(whole())
    )
    min_steps: Count = key("Least environment steps of a stage before its threshold is looked at.", whole(0))
    check_every: Count = key("Environment steps between two looks at the success.", whole())
    check_episodes: int = key("Deterministic episodes of each task in a look, on the run's goals.", whole())
    replay: list[str] = key(
        "Transitions from before a stage that its updates still draw from: all, tasks (those of its own tasks) or "
        "none; one for each stage but the first, or one for all.",
        each(one_of("all", "tasks", "none")),
    )
    start_stage: int = key("Stage to begin with; a run that is continued is advanced to it.", learned=False)
    difficulty: dict[str, float] = key(
        "Difficulties that add to, or override, those in ``mtrl.tasks``.", each(FINITE)
    )
    copies: int | None = key(
        "Environment copies in all, for env.copies_per_task; may be fewer than tasks.", SOME
    )


@dataclass(slots=True)
class AdaptiveCurriculumConfig(CurriculumConfig):
    """Weights that follow the success of each task."""

    floor: float = key("Share of the copies that is spread evenly, so that no task is forgotten.", FRACTION)
    rate: float = key("Share of the way to success and progress that weights move at each look.", FRACTION)


@dataclass(slots=True)
class EnvConfig(Group):
    """The environments."""

    tasks: list[str] = key("The task set; a task's place in it is its id.")
    copies_per_task: int = key("Environments of each task that run side by side.", SOME)
    horizon: int = key("Environment steps of an episode, a truncation; at most 500.", EPISODE_LENGTH)
    reward: str = key("Meta-World's reward: v2 (0..10 a step) or v1 (up to 10^6 an episode).", REWARD)
    terminate_on_success: bool = key(
        "End an episode when the task is solved (Meta-World: unstable in training)."
    )
    normalize_observations: bool = key("Running mean and variance over the observation, not the one-hot.")
    normalize_reward: bool = key("Divide the reward by the running deviation of the return.")


@dataclass(slots=True)
class TransferConfig(Group):
    """What the networks start from, where that is another run."""

    source: str | None = key(
        "A run directory (its best model), a checkpoint, or a zip of stable-baselines3; null: from scratch.",
        learned=False,
    )
    train: list[str] = key("Overrides of the source, which is trained first if it is not yet.", learned=False)
    source_tasks: list[str] = key("Tasks of a zip in the order of its one-hot; a run knows its own.")
    parts: list[str] = key(
        "What is taken over: actor, critic, temperature, optimiser, replay, normalisation; with the actor, it acts "
        "from the first step on, and algo.learning_starts says only when updates begin.",
        each(one_of("actor", "critic", "temperature", "optimiser", "replay", "normalisation")),
    )
    new_tasks: str = key(
        "Tasks that the source lacks begin like the most related of its tasks, their mean, or fresh.",
        one_of("related", "mean", "fresh"),
    )
    learning_rate_multiplier: float = key("Factor on algo.learning_rate.", SCALE)
    freeze_steps: dict[str, float] = key("Environment steps for which each stays as it came.", each(whole(0)))
    baseline: bool = key("Train the same run from scratch, too, and compare the two.", learned=False)

    @property
    def active(self) -> bool:
        """Whether the run starts from another one."""
        return self.source is not None or bool(self.train)


@dataclass(slots=True)
class VariantConfig(Group):
    """The networks, and how they know the task."""

    task_id: ClassVar[bool] = True
    """Whether the observation carries the task's one-hot."""

    @property
    def own_networks(self) -> tuple[str, str] | None:
        """What needs mtrl's networks, and how to do without it; None where stable-baselines3's suffice."""
        if self.layer_norm:
            return "LayerNorm in the critic", "variant.layer_norm=false"
        what = f"initialisation={self.initialisation}"
        return None if self.initialisation == "torch" else (what, "leave variant.initialisation out")

    name: str = key("plain (no task id), shared (one-hot task id), multihead (that and a critic per task).")
    actor_layers: list[int] = key("Widths of the actor's hidden layers.", layers)
    critic_layers: list[int] = key("Widths of the hidden layers of each critic.", layers)
    layer_norm: bool = key("LayerNorm after each hidden layer of the critics.")
    initialisation: str = key(
        "First weights: torch (as stable-baselines3) or metaworld_algorithms (He-uniform, outputs near 0).",
        one_of("torch", "metaworld_algorithms"),
    )


@dataclass(slots=True)
class PlainConfig(VariantConfig):
    """One network for all tasks, which is not told the task."""

    task_id: ClassVar[bool] = False


@dataclass(slots=True)
class MultiheadConfig(VariantConfig):
    """A critic, and optionally an actor, per task."""

    own_networks = property(lambda self: ("variant=multihead", "variant=shared"))
    shared_layers: int | str = key(
        "Hidden layers that all critics share: 0 is separate critics, all a head each."
    )
    actor_heads: bool = key("A linear head per task in the actor too.")


OPTIONS: dict[str, dict[str, type]] = {
    "algo": {"sac": SACConfig, "td3": TD3Config, "ddpg": DDPGConfig},
    "variant": {"plain": PlainConfig, "shared": VariantConfig, "multihead": MultiheadConfig},
    "curriculum": {"staged": CurriculumConfig, "adaptive": AdaptiveCurriculumConfig},
}
"""The types of the groups whose options differ in their keys; others have the keys of one of these."""

_COMMAND = {"learned": False, "noted": False}


@dataclass(slots=True)
class Config(Group):
    """One run."""

    experiment: str = key("Name of the recipe; set by the choice of ``experiment=``.", **_COMMAND)
    seed: int = key("Decides goals, weights, exploration: everything random.", SEED, **_COMMAND)
    task: str | None = key("The task of a single-task recipe.")
    total_steps: Count = key("Environment steps to train, over all copies.", whole(), learned=False)
    phase: int | None = key("Train to the end of this phase (1, 2, ...), not to ``total_steps``.", **_COMMAND)
    phases: list[Count] = key("Environment steps at which the phases end.", each(whole()), learned=False)
    fresh: bool = key("Move an earlier run of this configuration aside, and train from scratch.", **_COMMAND)
    dry_run: bool = key("Show what would run, and stop.", **_COMMAND)
    output: str = key("Directory under which run directories are made.", **_COMMAND)
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
        Group.__post_init__(self)
        require(self.phases == sorted(self.phases), f"phases={self.phases} must grow")
        if self.phase is not None:
            known = 1 <= self.phase <= len(self.phases)
            require(known, f"phase={self.phase} does not exist: phases has {len(self.phases)} ends")
            self.total_steps = self.phases[self.phase - 1]

    @property
    def learning_rate(self) -> float:
        """Learning rate of this run: of the algorithm, or that times the transfer's factor."""
        factor = self.transfer.learning_rate_multiplier if self.transfer.active else 1.0
        return self.algo.learning_rate * factor

    @property
    def n_envs(self) -> int:
        """Environments that run side by side."""
        return self.curriculum.copies or len(self.env.tasks) * self.env.copies_per_task


def config_of(values: dict[str, Any], choices: Mapping[str, str]) -> Config:
    """Return the configuration of what was composed with these options of groups.

    Raises:
        ConfigurationError: A value is of the wrong type or out of bounds, or a file sets a key that is not there.
    """
    made: dict[str, Any] = {}
    # What groups take over from single keys is refused by the name of the key.
    for group, value in sorted(values.items(), key=lambda item: isinstance(item[1], dict)):
        field = Config.__dataclass_fields__.get(group)
        _require_key(field is not None, group, choices)
        if is_dataclass(field.type):
            options = OPTIONS.get(group, {})
            # An option of somebody's own has the keys of one of ours.
            same = (each for each in options.values() if {key.name for key in fields(each)} == set(value))
            kind = options.get(choices.get(group, "")) or next(same, field.type)
            names = [key.name for key in fields(kind)]
            for name in value:
                _require_key(name in names, f"{group}.{name}", choices)
            for name in names:
                require(name in value, f"{group}.{name} has no value: set it with {group}.{name}=...")
        made[group] = kind(**value) if is_dataclass(field.type) else _converted(group, field.type, value)
    return Config(**made)


def _require_key(known: bool, key: str, choices: Mapping[str, str]) -> None:
    owners = owners_of(key)
    which = f"only {' and '.join(owners)} has: choose {owners[0]}, or another experiment" if owners else ""
    missing = f"which {which or 'does not exist: take it out'}"
    require(known, f"experiment={choices['experiment']} sets {key}, {missing}")


def holds_keys(group: str) -> str:
    """Return the sentence that refuses a value for a whole group."""
    first = fields(Config.__dataclass_fields__[group].type)[0].name
    return f"{group} has the wrong type: it holds keys, which are set one by one, as {group}.{first}=..."


def owners_of(key: str) -> list[str]:
    """Return the options that have a key, as ``group=option``."""
    group, _, name = key.partition(".")
    options = OPTIONS.get(group, {}).items()
    return [f"{group}={option}" for option, kind in options if name in kind.__dataclass_fields__]


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
