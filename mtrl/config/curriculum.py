"""The types of the curricula's keys."""

from dataclasses import dataclass
from typing import Any

from mtrl.config.values import require, require_choice, require_fraction, whole_steps

REPLAY = ("all", "tasks", "none")


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
