"""The stages that a configuration declares: the share of each task, and what ends a stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtrl.config.types import Config, CurriculumConfig, is_number, require, whole
from mtrl.errors import ConfigurationError
from mtrl.tasks import DIFFICULTY, MT10, closest

LARGEST = 1e300
"""Bound of weights, so that sums of them stay finite."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a curriculum."""

    weights: tuple[float, ...]
    """Share of each task of the run, in its order; they sum to 1."""
    threshold: float | None
    """Mean success over the stage's tasks that ends it."""
    steps: int | None
    """Environment steps that end it, if the threshold has not before."""
    replay: str
    """Transitions from before it that its updates still draw from: all, tasks (of its own) or none."""

    @property
    def tasks(self) -> tuple[int, ...]:
        """Ids of the tasks that have a share."""
        return tuple(task for task, weight in enumerate(self.weights) if weight > 0)


def stages_of(cfg: Config) -> tuple[Stage, ...]:
    """Return the stages of a run, none where it has no curriculum.

    Raises:
        ConfigurationError: A stage that cannot be played or can never end, in one sentence.
    """
    curriculum, tasks = cfg.curriculum, cfg.env.tasks
    name, key, given, steps = curriculum.name, "curriculum.stages", curriculum.stages, curriculum.steps
    ordered = name in ("sequential", "mixed") and not given and not curriculum.tables
    require(
        ordered or not curriculum.difficulty,
        f"curriculum.difficulty={curriculum.difficulty} orders the stages that curriculum=sequential and mixed make, "
        "and here nothing reads it: leave it out",
    )
    if given:
        _check_progressive(curriculum, tasks)
    elif curriculum.tables:
        key, table = _fitting_table(curriculum, tasks)
        given = table["stages"]
        steps = steps or [whole()(f"{key}: steps", end) for end in table["steps"]]
        key += ".stages"
    elif name == "sequential":
        given = [[task] for task in _by_difficulty(cfg)]
    elif name == "mixed":
        easiest_first, first = _by_difficulty(cfg), 3
        require(
            len(tasks) >= first,
            f"curriculum=mixed starts with {first} tasks and the run has {len(tasks)}: "
            "use experiment=mt10, or curriculum=sequential",
        )
        given = [easiest_first[:size] for size in range(first, len(tasks) + 1)]
    elif name == "adaptive":
        given = [tasks]
    elif name == "none":
        return ()
    require(
        bool(given),
        f"curriculum={name} was left without stages: give it some with curriculum.stages=[...], "
        "or use curriculum=none",
    )
    weights = [_shares(f"{key}[{number}]", stage, tasks) for number, stage in enumerate(given)]
    left_out = _left_out(weights, tasks)
    some = ", ".join(left_out[:3]) + (", ..." if len(left_out) > 3 else "")
    require(
        not left_out or name == "none",
        f"curriculum={name} has no stage that plays {len(left_out)} of the {len(tasks)} tasks ({some}): use "
        "curriculum=sequential, or give stages of your own with curriculum=none curriculum.stages=[...]",
    )
    between = len(weights) - 1
    thresholds = _for_each("thresholds", curriculum.thresholds, between, "last")
    steps = _for_each("steps", steps, between, "last")
    for number, ends in enumerate(zip(thresholds, steps, strict=True)):
        require(
            ends != (None, None),
            f"nothing ends stage {number} of the curriculum: give it a value in curriculum.thresholds or "
            "in curriculum.steps",
        )
    replay = (kept or "all" for kept in _for_each("replay", curriculum.replay, between, "first"))
    require(
        0 <= curriculum.start_stage <= between,
        f"curriculum.start_stage={curriculum.start_stage} does not exist: the stages are 0 to {between}",
    )
    return tuple(map(Stage, weights, [*thresholds, None], [*steps, None], ["all", *replay]))


def notices(cfg: Config) -> list[str]:
    """Return what is allowed but possibly unintended: a task without a share, a stage that is out of reach."""
    curriculum, stages, begin = cfg.curriculum, stages_of(cfg), 0
    left_out = _left_out([stage.weights for stage in stages], cfg.env.tasks)
    messages = [f"no stage plays {', '.join(left_out)}: only evaluations do"] if left_out else []
    for number, stage in enumerate(stages[curriculum.start_stage : -1], curriculum.start_stage + 1):
        ends = [] if stage.steps is None else [begin + stage.steps]
        if stage.threshold is not None:
            ends.append(max(begin + int(curriculum.min_steps), int(curriculum.check_every)))
        begin = min(ends)
        if begin >= cfg.total_steps:
            when = f"before step {begin:,}, and the run ends at {cfg.total_steps:,}"
            return [*messages, f"stage {number} cannot begin {when}"]
    return messages


def _by_difficulty(cfg: Config) -> list[str]:
    """Return the tasks of a run from the easiest to the hardest, equal ones in the order of the table."""
    own, tasks = cfg.curriculum.difficulty, cfg.env.tasks
    for task in own:
        _require_task("curriculum.difficulty", task, tasks)
    difficulty = DIFFICULTY | own
    for task in tasks:
        require(
            task in difficulty,
            f"{task} has no difficulty to order it by: add curriculum.difficulty={{{task}:3}} (1 is easiest)",
        )
    # Sorting keeps the order of the table among equal ones.
    return sorted((task for task in difficulty if task in tasks), key=difficulty.__getitem__)


def _left_out(weights: Sequence[Sequence[float]], tasks: Sequence[str]) -> list[str]:
    """Return the tasks that no stage plays."""
    return [task for task, shares in zip(tasks, zip(*weights, strict=True), strict=False) if not any(shares)]


def _check_progressive(curriculum: CurriculumConfig, tasks: Sequence[str]) -> None:
    """Refuse the stages of curriculum=progressive for other tasks in words that name the option, not a stage."""
    named = [task for stage in curriculum.stages if isinstance(stage, Sequence) for task in stage]
    missing = [task for task in named if task not in tasks]
    if curriculum.name == "progressive" and missing and set(map(str, named)) == set(MT10):
        several = "curriculum=sequential, or stages of your own with 'curriculum.stages=[[...],[...]]'"
        raise ConfigurationError(
            f"curriculum=progressive has stages for the ten tasks of MT10, and {missing[0]} is not a task of this "
            f"run: use experiment=mt10, {several if len(tasks) > 1 else 'or curriculum=none for one task'}"
        )


def _fitting_table(curriculum: CurriculumConfig, tasks: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """Return the key and the content of the table whose stages name exactly these tasks."""
    sets = []
    for number, table in enumerate(curriculum.tables):
        key = f"curriculum.tables[{number}]"
        lists = [table.get(part) for part in ("stages", "steps")] if isinstance(table, Mapping) else [None]
        require(
            all(isinstance(part, list) for part in lists),
            f"{key} needs stages=[...] and steps=[...], one step count for each but the last",
        )
        # A stage may be one task; what is no stage at all is refused later, by its place.
        stages = (stage if isinstance(stage, Mapping | list) else [stage] for stage in table["stages"])
        named = list(dict.fromkeys(str(task) for stage in stages for task in stage))
        if set(named) == set(tasks):
            return key, table
        sets.append(f"{len(named)} tasks ({', '.join(named[:3])}, ...)")
    raise ConfigurationError(
        f"curriculum={curriculum.name} has no stages for this set of {len(tasks)} tasks: "
        f"it has them for {' and for '.join(sets)}"
    )


def _shares(key: str, stage: Any, tasks: Sequence[str]) -> tuple[float, ...]:
    """Return the shares of a stage given as one task, a list of tasks, or ``{task: weight}``."""
    stage = [stage] if isinstance(stage, str) else stage
    require(
        isinstance(stage, Mapping | list),
        f"{key}={stage} is no stage: give a list of tasks, or {{task: weight}}",
    )
    for task in stage:
        _require_task(key, task, tasks)
        twice = f"{key} names {task} twice: name it once, or give weights as {{{task}: 2, ...}}"
        require(list(stage).count(task) == 1, twice)
    given = dict(stage) if isinstance(stage, Mapping) else dict.fromkeys(stage, 1.0)
    for task, weight in given.items():
        require(
            is_number(weight) and 0 <= weight < LARGEST,
            f"{key}: the weight {weight} of {task} must be a number of at least 0, below {LARGEST:g}",
        )
    total = float(sum(given.get(task, 0.0) for task in tasks))
    require(total > 0, f"{key} has weights that sum to 0: give at least one task a weight above 0")
    return tuple(given.get(task, 0.0) / total for task in tasks)


def _require_task(key: str, task: Any, tasks: Sequence[str]) -> None:
    if task not in tasks:
        near = closest(str(task), tasks)
        hint = f"did you mean {near}?" if near else f"add it to the set ({', '.join(tasks)}), or leave it out"
        raise ConfigurationError(f"{key} names {task}, which is not a task of this run: {hint}")


def _for_each(key: str, values: Sequence[Any], number: int, without: str) -> list[Any]:
    """Return ``number`` values: those given, a single one that holds for all, or None where none is given."""
    values = list(values) or [None]
    require(
        len(values) in (1, number),
        f"curriculum.{key} has {len(values)} values for {number + 1} stages: "
        f"give {number} (the {without} stage has none), or one for all",
    )
    return values * number if len(values) == 1 else values
