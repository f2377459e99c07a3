"""The stages that a configuration declares: the share of each task, and what ends a stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtrl.config.types import Config, CurriculumConfig, is_number, whole_steps
from mtrl.errors import ConfigurationError
from mtrl.tasks import DIFFICULTY, MT10, closest

FIRST_MIXED = 3
"""Tasks in the first stage of a mixed curriculum."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a curriculum."""

    weights: tuple[float, ...]
    """Share of each task of the run, in its order; they sum to 1."""
    threshold: float | None
    """Mean success over the stage's tasks that ends it."""
    steps: int | None
    """Environment steps that end it, if the threshold has not before."""
    replay: str = "all"
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
    key, given, steps = "curriculum.stages", curriculum.stages, curriculum.steps
    if given:
        _check_progressive(curriculum, tasks)
    elif curriculum.tables:
        key, table = _fitting_table(curriculum, tasks)
        given = table["stages"]
        steps = steps or [whole_steps(f"{key}: steps", end) for end in table["steps"]]
        key += ".stages"
    elif curriculum.name == "sequential":
        given = [[task] for task in by_difficulty(cfg)]
    elif curriculum.name == "mixed":
        easiest_first = by_difficulty(cfg)
        if len(tasks) < FIRST_MIXED:
            raise ConfigurationError(
                f"curriculum=mixed starts with {FIRST_MIXED} tasks and the run has {len(tasks)}: "
                "use experiment=mt10, or curriculum=sequential"
            )
        given = [easiest_first[:size] for size in range(FIRST_MIXED, len(tasks) + 1)]
    elif curriculum.name == "adaptive":
        given = [tasks]
    elif curriculum.name == "none":
        return ()
    else:
        raise ConfigurationError(
            f"curriculum={curriculum.name} was left without stages: give it some with curriculum.stages=[...], "
            "or use curriculum=none"
        )
    weights = [_weights(f"{key}[{number}]", stage, tasks) for number, stage in enumerate(given)]
    left_out = _left_out(weights, tasks)
    if left_out and curriculum.name != "none":
        some = ", ".join(left_out[:3]) + (", ..." if len(left_out) > 3 else "")
        raise ConfigurationError(
            f"curriculum={curriculum.name} has no stage that plays {len(left_out)} of the {len(tasks)} tasks "
            f"({some}): use curriculum=sequential, or give stages of your own with curriculum=none "
            "curriculum.stages=[...]"
        )
    stages = _with_ends(weights, curriculum.thresholds, steps, curriculum.replay)
    if not 0 <= curriculum.start_stage < len(stages):
        raise ConfigurationError(
            f"curriculum.start_stage={curriculum.start_stage} does not exist: "
            f"the stages are 0 to {len(stages) - 1}"
        )
    return stages


def notices(cfg: Config) -> list[str]:
    """Return what is allowed but possibly unintended: a task without a share, a stage that is out of reach."""
    curriculum, stages = cfg.curriculum, stages_of(cfg)
    messages = []
    left_out = _left_out([stage.weights for stage in stages], cfg.env.tasks)
    if stages and left_out:
        messages.append(f"no stage plays {', '.join(left_out)}: only evaluations do")
    begin = 0
    for number, stage in enumerate(stages[curriculum.start_stage : -1], curriculum.start_stage + 1):
        ends = [] if stage.steps is None else [begin + stage.steps]
        if stage.threshold is not None:
            ends.append(max(begin + int(curriculum.min_steps), int(curriculum.check_every)))
        begin = min(ends)
        if begin >= cfg.total_steps:
            messages.append(
                f"stage {number} cannot begin before step {begin:,}, and the run ends at {cfg.total_steps:,}"
            )
            break
    return messages


def by_difficulty(cfg: Config) -> list[str]:
    """Return the tasks of a run from the easiest to the hardest, equal ones in the order of the table.

    Raises:
        ConfigurationError: A task has no difficulty, or a difficulty has no task.
    """
    difficulty = DIFFICULTY | {task: float(value) for task, value in cfg.curriculum.difficulty.items()}
    for task in cfg.curriculum.difficulty:
        _require_task("curriculum.difficulty", task, cfg.env.tasks)
    for task in cfg.env.tasks:
        if task not in difficulty:
            raise ConfigurationError(
                f"{task} has no difficulty to order it by: "
                f"add curriculum.difficulty={{{task}:3}} (1 is easiest)"
            )
    order = list(difficulty)
    return sorted(cfg.env.tasks, key=lambda task: (difficulty[task], order.index(task)))


def _left_out(weights: Sequence[Sequence[float]], tasks: Sequence[str]) -> list[str]:
    """Return the tasks that no stage plays."""
    return [task for place, task in enumerate(tasks) if not any(shares[place] > 0 for shares in weights)]


def _check_progressive(curriculum: CurriculumConfig, tasks: Sequence[str]) -> None:
    """Refuse the stages of curriculum=progressive for other tasks in words that name the option, not a stage."""
    named = [task for stage in curriculum.stages if isinstance(stage, Sequence) for task in stage]
    missing = [task for task in named if task not in tasks]
    if curriculum.name != "progressive" or set(named) != set(MT10) or not missing:
        return
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
        if not all(_is_list(part) for part in lists):
            raise ConfigurationError(
                f"{key} needs stages=[...] and steps=[...], one step count for each but the last"
            )
        stages = [
            stage if isinstance(stage, Mapping) or _is_list(stage) else [stage] for stage in table["stages"]
        ]
        named = list(dict.fromkeys(task for stage in stages for task in stage))
        if set(named) == set(tasks):
            return key, table
        sets.append(f"{len(named)} tasks ({', '.join(map(str, named[:3]))}, ...)")
    raise ConfigurationError(
        f"curriculum={curriculum.name} has no stages for this set of {len(tasks)} tasks: "
        f"it has them for {' and for '.join(sets)}"
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _weights(key: str, stage: Any, tasks: Sequence[str]) -> tuple[float, ...]:
    """Return the shares of a stage given as one task, a list of tasks, or ``{task: weight}``."""
    if isinstance(stage, str):
        stage = [stage]
    if isinstance(stage, Mapping):
        given = dict(stage)
    elif isinstance(stage, Sequence):
        repeated = [task for task in stage if list(stage).count(task) > 1]
        if repeated:
            raise ConfigurationError(
                f"{key} names {repeated[0]} twice: name it once, or give weights as {{{repeated[0]}: 2, ...}}"
            )
        given = dict.fromkeys(stage, 1.0)
    else:
        raise ConfigurationError(f"{key}={stage} is no stage: give a list of tasks, or {{task: weight}}")
    for task, weight in given.items():
        _require_task(key, task, tasks)
        if not is_number(weight) or not 0 <= weight < float("inf"):
            raise ConfigurationError(f"{key}: the weight {weight} of {task} must be a number of at least 0")
    total = float(sum(given.get(task, 0.0) for task in tasks))
    if total <= 0:
        raise ConfigurationError(f"{key} has weights that sum to 0: give at least one task a weight above 0")
    return tuple(given.get(task, 0.0) / total for task in tasks)


def _require_task(key: str, task: Any, tasks: Sequence[str]) -> None:
    if task not in tasks:
        near = closest(str(task), tasks)
        hint = f"did you mean {near}?" if near else f"add it to the set ({', '.join(tasks)}), or leave it out"
        raise ConfigurationError(f"{key} names {task}, which is not a task of this run: {hint}")


def _with_ends(
    weights: Sequence[tuple[float, ...]],
    thresholds: Sequence[float | None],
    steps: Sequence[int | None],
    replay: Sequence[str],
) -> tuple[Stage, ...]:
    """Give each stage but the last what ends it, and each but the first what it keeps of the replay."""
    between = len(weights) - 1
    thresholds = [*_for_each("thresholds", thresholds, between, "last"), None]
    steps = [*_for_each("steps", steps, between, "last"), None]
    replay = ["all", *(kept or "all" for kept in _for_each("replay", replay, between, "first"))]
    stages = tuple(map(Stage, weights, thresholds, steps, replay))
    for number, stage in enumerate(stages[:-1]):
        if stage.threshold is None and stage.steps is None:
            raise ConfigurationError(
                f"nothing ends stage {number} of the curriculum: give it a value in curriculum.thresholds or "
                "in curriculum.steps"
            )
    return stages


def _for_each(key: str, values: Sequence[Any], number: int, without: str) -> list[Any]:
    """Return ``number`` values: those given, a single one that holds for all, or None where none is given."""
    values = list(values) or [None]
    if len(values) == 1:
        return values * number
    if len(values) != number:
        raise ConfigurationError(
            f"curriculum.{key} has {len(values)} values for {number + 1} stages: "
            f"give {number} (the {without} stage has none), or one for all"
        )
    return values
