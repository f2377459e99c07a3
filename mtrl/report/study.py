"""Sort runs into comparisons (same tasks, reward, horizon) and groups (same settings but for the seed)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl.report.settings import group_labels, learning_settings, task_set_title
from mtrl.rundir.curves import Curves, curves_of
from mtrl.rundir.run import Run


@dataclass(slots=True)
class Member:
    """A run with its curves by kind of goals."""

    run: Run
    curves: dict[str, Curves]


@dataclass(slots=True)
class Group:
    """Runs that differ in the seed alone.

    Args:
        label: What tells it from the other groups of its comparison.
        settings: The learning settings, dotted keys.
        members: Its runs, by seed.
        series: Its place among the groups, which decides its colour.
    """

    label: str
    settings: dict[str, Any]
    members: list[Member]
    series: int

    def with_goals(self, goals: str) -> list[Member]:
        """Return the members that were evaluated on these goals."""
        return [member for member in self.members if goals in member.curves]

    def scores(self, goals: str) -> NDArray[np.float64]:
        """Return the final success rates ``(runs, tasks)``."""
        curves = [member.curves[goals] for member in self.with_goals(goals)]
        return np.array([curve.success[:, curve.final()] for curve in curves])


@dataclass(slots=True)
class Comparison:
    """Groups that may stand in one table: the same tasks, reward version and horizon.

    ``title`` names the task set; ``heading`` tells it from the other comparisons of a study. ``slug`` begins the
    names of its files; ``left_out`` says which runs are in no group, and why.
    """

    title: str
    tasks: tuple[str, ...]
    reward: str
    horizon: int | None
    groups: list[Group]
    heading: str = ""
    slug: str = ""
    left_out: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """The kinds of goals that any group was evaluated on, training goals first."""
        return [
            goals for goals in ("train", "heldout") if any(group.with_goals(goals) for group in self.groups)
        ]


@dataclass(slots=True)
class Study:
    """Everything that a report shows."""

    comparisons: list[Comparison]
    runs: list[Run]


def build_study(runs: Sequence[Run], until: int | None = None) -> Study:
    """Sort ``runs`` into comparisons and groups.

    Args:
        runs: What to report on.
        until: Ignore evaluations after this environment step; None uses all.
    """
    sets: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        tasks, reward, horizon = _protocol(run)
        # The same tasks in another order are no other set.
        sets.setdefault((tuple(sorted(tasks)), reward, horizon), []).append(run)
    comparisons = [_comparison(_protocol(members[0]), members, until) for members in sets.values()]
    headings = [_heading(comparison, comparisons) for comparison in comparisons]
    for index, comparison in enumerate(comparisons):
        again = headings[:index].count(headings[index])
        comparison.heading = headings[index] + (f" ({again + 1})" if again else "")
        stem = re.sub(r"[^a-z0-9]+", "-", comparison.title.lower()).strip("-")
        comparison.slug = stem if len(comparisons) == 1 else f"{index + 1}-{stem}"
    return Study(comparisons, list(runs))


def _heading(comparison: Comparison, all_of_them: Sequence[Comparison]) -> str:
    """Return the title, with what sets the comparison apart from others of that title."""
    alike = [other for other in all_of_them if other.title == comparison.title]
    words = [comparison.title]
    if len({frozenset(other.tasks) for other in alike}) > 1:
        names = [task.removesuffix("-v3") for task in comparison.tasks]
        words[0] += f" ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})"
    if len({other.reward for other in alike}) > 1:
        words.append(f"{comparison.reward} reward")
    if len({other.horizon for other in alike}) > 1:
        words.append(f"horizon {comparison.horizon}" if comparison.horizon else "unknown horizon")
    return ", ".join(words)


def _protocol(run: Run) -> tuple[tuple[str, ...], str, int | None]:
    env = run.config.get("env")
    env = env if isinstance(env, dict) else {}
    horizon = env.get("horizon")
    return run.tasks, str(env.get("reward", "unknown")), horizon if isinstance(horizon, int) else None


def _comparison(protocol: tuple[Any, ...], runs: list[Run], until: int | None) -> Comparison:
    tasks, reward, horizon = protocol
    members = [Member(run, curves_of(run, tasks, until)) for run in runs]
    by_settings: dict[str, list[Member]] = {}
    settings = {}
    for member in members:
        values = learning_settings(member.run)
        key = repr(sorted(values.items(), key=lambda item: item[0]))
        settings[key] = values
        by_settings.setdefault(key, []).append(member)
    labels = group_labels(list(settings.values()))
    left_out: list[str] = []
    groups = []
    for label, key in sorted(zip(labels, by_settings, strict=True)):
        found = _one_per_seed(by_settings[key], left_out)
        groups.append(Group(label, settings[key], found, len(groups)))
    return Comparison(task_set_title(tasks), tasks, reward, horizon, groups, left_out=left_out)


def _one_per_seed(members: list[Member], left_out: list[str]) -> list[Member]:
    by_seed: dict[Any, Member] = {}
    for member in sorted(members, key=lambda member: member.run.last_written):
        seed = member.run.seed
        if seed in by_seed:
            older, newer = by_seed[seed].run.path, member.run.path
            left_out.append(f"{older} is left out: {newer} is newer, with the same settings and seed.")
        by_seed[seed] = member
    return sorted(by_seed.values(), key=lambda member: (member.run.seed is None, member.run.seed or 0))
