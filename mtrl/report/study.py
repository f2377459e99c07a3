"""Sort runs into comparisons (same tasks, reward, horizon) and groups (same settings but for the seed)."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl import __version__
from mtrl.rundir import Run, flatten
from mtrl.status import count
from mtrl.tasks import MT3, MT10, MT25, MT50

NOT_LEARNED = ("hardware", "checkpoint", "logging", "tracker", "wandb", "stop", "evaluation", "hydra")
"""Groups of the configuration that do not change what is learned, so that they make no groups of runs."""

_NOT_LEARNED_KEYS = {"total_steps", "phase", "phases", "fresh", "dry_run", "output", "curriculum.start_stage"}

_TELLING = (
    "experiment",
    "task",
    "algo.name",
    "algo.cls",
    "variant.name",
    "curriculum.name",
    "transfer.source",
)
"""The keys that people name a group by, the first ones first."""

FEW_SEEDS = 3


@dataclass(slots=True)
class Curves:
    """The evaluations of one run on one kind of goals.

    Args:
        steps: ``(evaluations,)`` environment steps, rising.
        success: ``(tasks, evaluations)`` success rates; NaN where a task was not evaluated.
        returns: The same shape, mean return of an episode.
        lengths: The same shape, mean length of an episode in steps.
        episodes: The same shape, episodes of the evaluation.
    """

    steps: NDArray[np.float64]
    success: NDArray[np.float64]
    returns: NDArray[np.float64]
    lengths: NDArray[np.float64]
    episodes: NDArray[np.float64]

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Which evaluations cover every task."""
        return np.isfinite(self.success).all(axis=0)

    def mean(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return steps and mean success over tasks of the complete evaluations."""
        return self.steps[self.complete], self.success[:, self.complete].mean(axis=0)

    def final(self) -> int:
        """Return the index of the last complete evaluation."""
        return int(np.flatnonzero(self.complete)[-1])


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
    """Groups that may stand in one table: the same tasks, reward version and horizon."""

    title: str
    tasks: tuple[str, ...]
    reward: str
    horizon: int | None
    groups: list[Group]
    slug: str = ""
    notices: list[str] = field(default_factory=list)

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
    notices: list[str]


def build_study(runs: Sequence[Run], until: int | None = None) -> Study:
    """Sort ``runs`` into comparisons and groups.

    Args:
        runs: What to report on.
        until: Ignore evaluations after this environment step; None uses all.

    Returns:
        The study; its notices say in one sentence each whatever a reader must know to trust it.
    """
    notices: list[str] = []
    sets: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        sets.setdefault(_protocol(run), []).append(run)
    if len(sets) > 1:
        what = [
            name
            for name, values in zip(_PROTOCOL, zip(*sets, strict=True), strict=True)
            if len(set(values)) > 1
        ]
        notices.append(
            f"The runs differ in {_list(what)}, which makes success rates incomparable: they stand in "
            f"{len(sets)} separate comparisons."
        )
    comparisons = [_comparison(protocol, members, until) for protocol, members in sets.items()]
    for index, comparison in enumerate(comparisons):
        stem = re.sub(r"[^a-z0-9]+", "-", comparison.title.lower()).strip("-")
        comparison.slug = stem if len(comparisons) == 1 else f"{index + 1}-{stem}"
    notices += _version_notices(runs)
    problems = list(dict.fromkeys(problem for run in runs for problem in _all_problems(run)))
    return Study(comparisons, list(runs), notices + [problem + "." for problem in problems])


def learning_settings(run: Run) -> dict[str, Any]:
    """Return the settings that decide what is learned, without the seed and what is derived from it."""
    return {
        key: _without_seed(value)
        for key, value in run.settings.items()
        if key.split(".")[0] not in NOT_LEARNED
        and key not in _NOT_LEARNED_KEYS
        and key.rsplit(".", 1)[-1] != "seed"
    }


_PROTOCOL = ("tasks", "reward version", "horizon")


def _protocol(run: Run) -> tuple[tuple[str, ...], str, int | None]:
    env = run.config.get("env")
    env = env if isinstance(env, dict) else {}
    horizon = env.get("horizon")
    return run.tasks, str(env.get("reward", "unknown")), horizon if isinstance(horizon, int) else None


def _comparison(protocol: tuple[Any, ...], runs: list[Run], until: int | None) -> Comparison:
    tasks, reward, horizon = protocol
    members = [Member(run, _curves(run, tasks, until)) for run in runs]
    by_settings: dict[str, list[Member]] = {}
    settings = {}
    for member in members:
        values = learning_settings(member.run)
        key = repr(sorted(values.items(), key=lambda item: item[0]))
        settings[key] = values
        by_settings.setdefault(key, []).append(member)
    labels = _labels(list(settings.values()))
    notices: list[str] = []
    groups = []
    for label, key in sorted(zip(labels, by_settings, strict=True)):
        found = _one_per_seed(by_settings[key], notices)
        groups.append(Group(label, settings[key], found, len(groups)))
    comparison = Comparison(_title(tasks), tasks, reward, horizon, groups, notices=notices)
    _notice_state(comparison)
    for goals in comparison.kinds:
        _notice_protocol(comparison, goals)
    return comparison


def _curves(run: Run, tasks: tuple[str, ...], until: int | None) -> dict[str, Curves]:
    table = run.evaluation
    found = {}
    if not len(table):
        return found
    place = {task: index for index, task in enumerate(tasks)}
    task_index = np.array([place.get(task, -1) for task in table["task"].tolist()])
    for goals in ("train", "heldout"):
        rows = (table["goals"] == goals) & (task_index >= 0)
        if until is not None:
            rows &= table["step"] <= until
        if not rows.any():
            continue
        steps, at = np.unique(table["step"][rows], return_inverse=True)
        # An official evaluation beside a short one at the same step wins, whatever their order in the file.
        order = np.argsort(table["episodes"][rows], kind="stable")
        columns = []
        for name in ("success_rate", "mean_return", "mean_length", "episodes"):
            values = np.full((len(tasks), len(steps)), np.nan)
            if name in table.columns:
                values[task_index[rows][order], at[order]] = table[name][rows][order]
            columns.append(values)
        curves = Curves(steps, *columns)
        if curves.complete.any():
            found[goals] = curves
    return found


def _one_per_seed(members: list[Member], notices: list[str]) -> list[Member]:
    by_seed: dict[Any, Member] = {}
    for member in sorted(members, key=lambda member: member.run.last_written):
        seed = member.run.seed
        if seed in by_seed:
            notices.append(
                f"{by_seed[seed].run.path} is left out: {member.run.path} is newer and of the same settings and seed."
            )
        by_seed[seed] = member
    return sorted(by_seed.values(), key=lambda member: (member.run.seed is None, member.run.seed or 0))


def _labels(settings: list[dict[str, Any]]) -> list[str]:
    """Return a short label for each group: the fewest telling settings that tell the groups apart."""
    keys = list(dict.fromkeys(key for values in settings for key in values))
    differing = [key for key in keys if len({repr(values.get(key)) for values in settings}) > 1]
    telling = [key for key in _TELLING if key in differing]
    rest = sorted(set(differing) - set(telling), key=lambda key: (key.count("."), key))
    chosen: list[str] = []
    parts: list[list[str]] = [[] for _ in settings]
    for key in telling + rest:
        if len(Counter(map(tuple, parts))) == len(settings):
            break
        refined = [[*part, repr(values.get(key))] for part, values in zip(parts, settings, strict=True)]
        if len(Counter(map(tuple, refined))) > len(Counter(map(tuple, parts))):
            parts = refined
            chosen.append(key)
    if not chosen:
        return [_plain_label(values) for values in settings]
    labels = [" · ".join(_part(key, values) for key in chosen) for values in settings]
    # Two classes of one name, or numbers equal to six digits, read alike.
    seen = [labels[:index].count(label) + 1 for index, label in enumerate(labels)]
    return [label if time == 1 else f"{label} ({time})" for label, time in zip(labels, seen, strict=True)]


def _plain_label(values: dict[str, Any]) -> str:
    names = [_part(key, values) for key in _TELLING[:5] if values.get(key) not in (None, "none")]
    return " · ".join(dict.fromkeys(names)) or "all runs"


def _part(key: str, values: dict[str, Any]) -> str:
    value = values.get(key)
    if key == "algo.cls" and isinstance(value, str):
        return value.rsplit(".", 1)[-1]
    if key == "curriculum.name" and value == "none":
        return "no curriculum"
    if key == "transfer.source":
        return f"transfer from {value}" if value else "no transfer"
    if key in _TELLING and value is not None:
        return str(value)
    return f"{key.rsplit('.', 1)[-1]}={show(value)}"


def show(value: Any) -> str:
    """Return a setting as people write it on the command line."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(show, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _title(tasks: tuple[str, ...]) -> str:
    for name, known in (("MT3", MT3), ("MT10", MT10), ("MT25", MT25), ("MT50", MT50)):
        if set(tasks) == set(known):
            return name
    if len(tasks) == 1:
        return tasks[0]
    return f"{len(tasks)} tasks" if tasks else "No tasks"


def _notice_state(comparison: Comparison) -> None:
    states = Counter(m.run.state for group in comparison.groups for m in group.members)
    unfinished = [f"{number} {state}" for state, number in states.most_common() if state != "finished"]
    if unfinished:
        comparison.notices.append(
            f"Not every run is finished ({', '.join(unfinished)}): their newest logs are used."
        )
    for group in comparison.groups:
        empty = [member.run.path for member in group.members if not member.curves]
        for path in empty:
            comparison.notices.append(f"{path} has no complete evaluation yet: it is in no average.")
        seeds = len(group.members) - len(empty)
        if 0 < seeds < FEW_SEEDS:
            runs = "1 seed" if seeds == 1 else f"{seeds} seeds"
            comparison.notices.append(
                f"{group.label} has only {runs}: fewer than {FEW_SEEDS} say little about the spread over seeds."
            )


def _notice_protocol(comparison: Comparison, goals: str) -> None:
    steps, episodes = [], []
    for group in comparison.groups:
        for member in group.with_goals(goals):
            curves = member.curves[goals]
            steps.append(curves.steps[curves.final()])
            episodes.append(curves.episodes[:, curves.final()].min())
    if max(steps) > 1.001 * min(steps):
        comparison.notices.append(
            f"The newest evaluations on {goals} goals lie between {count(min(steps))} and {count(max(steps))} "
            "steps: compare at one budget with --at-step."
        )
    if max(episodes) != min(episodes):
        comparison.notices.append(
            f"The newest evaluations on {goals} goals have {min(episodes):.0f} to {max(episodes):.0f} episodes a "
            "task: those with fewer are less certain."
        )


def project_version(run: Run) -> str | None:
    """Return the version of this project that made the run, or None where it says nothing."""
    facts = flatten(run.environment)
    for key in ("versions.mtrl", "versions.mtrl-metaworld", "mtrl", "mtrl-metaworld"):
        if isinstance(facts.get(key), str):
            return facts[key]
    return None


def _version_notices(runs: Sequence[Run]) -> list[str]:
    others = Counter(version for run in runs if (version := project_version(run)) not in (None, __version__))
    return [
        f"{number} of {len(runs)} runs were made by version {version} of this project, not {__version__}: "
        "what could be read is shown."
        for version, number in others.items()
    ]


def _all_problems(run: Run) -> list[str]:
    # Logs are read on demand: what is wrong with one is known once it has been asked for.
    for name in ("evaluation", "timing", "training"):
        getattr(run, name)
    return run.problems


def _without_seed(value: Any) -> Any:
    return re.sub(r"seed=\d+", "seed=*", value) if isinstance(value, str) else value


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
