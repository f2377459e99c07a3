"""Sort runs into comparisons (same tasks, reward, horizon) and groups (same settings but for the seed)."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtrl import __version__
from mtrl.config.types import is_learned
from mtrl.config.values import flatten
from mtrl.rundir.run import Curves, Run, curves_of, last_written
from mtrl.status import count
from mtrl.tasks import MT3, MT10, MT25, MT50
from mtrl.text import printable

GOALS = {"train": "training goals", "heldout": "held-out goals"}
"""The kinds of goals that a policy is evaluated on, as the logs and as people call them."""

FEW_SEEDS = 3
"""The report warns of groups with fewer runs than this."""

_TASK_SETS = {"MT3": MT3, "MT10": MT10, "MT25": MT25, "MT50": MT50}
# Keys that make groups of runs, although what is learned is decided by what they stand for.
_TELL_APART = ("experiment", "transfer.source", "transfer.train")
# The keys that people name a group by, the first ones first; of a group that stands alone, the plain ones.
_PLAIN = ("experiment", "task", "algo.name", "algo.cls", "variant.name")
_TELLING = (*_PLAIN, "curriculum.name", "transfer.source")


class Member(NamedTuple):
    """A run with its curves by kind of goals."""

    run: Run
    curves: dict[str, Curves]


@dataclass(slots=True)
class Group:
    """Runs that differ in the seed alone, by seed; ``label`` tells them from the other groups of their comparison.

    ``settings`` are what decides what is learned, by dotted keys; ``series``, the place among the groups, the colour.
    """

    label: str
    settings: dict[str, Any]
    members: list[Member]
    series: int

    def curves(self, goals: str) -> list[Curves]:
        """Return the curves of the members that were evaluated on these goals."""
        return [member.curves[goals] for member in self.members if goals in member.curves]

    def scores(self, goals: str) -> NDArray[np.float64]:
        """Return the final success rates ``(runs, tasks)``."""
        return np.array([curve.success[:, curve.final()] for curve in self.curves(goals)])


@dataclass(slots=True)
class Comparison:
    """Groups that may stand in one table: the same tasks, reward version and horizon.

    ``title`` names the task set; ``heading`` distinguishes it from the other comparisons of a study, ``slug`` begins
    the names of its files, and ``notices`` are what a reader must know of it.
    """

    title: str
    tasks: tuple[str, ...]
    reward: str
    horizon: int | None
    groups: list[Group] = field(default_factory=list)
    heading: str = ""
    slug: str = ""
    notices: list[str] = field(default_factory=list)

    def evaluated(self, goals: str) -> list[Group]:
        """Return the groups of which at least one run was evaluated on these goals."""
        return [group for group in self.groups if group.curves(goals)]

    @property
    def kinds(self) -> list[str]:
        """The kinds of goals that any group was evaluated on, training goals first."""
        return [goals for goals in GOALS if self.evaluated(goals)]

    @property
    def horizon_text(self) -> str:
        """The horizon in words."""
        return f"horizon {self.horizon}" if self.horizon else "unknown horizon"


class Study(NamedTuple):
    """Everything that a report shows."""

    comparisons: list[Comparison]
    runs: list[Run]
    notices: list[str]

    def groups(self) -> dict[str, Group]:
        """Return every group by a name that distinguishes it from all others of the study."""
        several = len(self.comparisons) > 1
        return {
            f"{comparison.heading}: {group.label}" if several else group.label: group
            for comparison in self.comparisons
            for group in comparison.groups
        }


def build_study(runs: Sequence[Run], problems: Sequence[str] = (), until: float | None = None) -> Study:
    """Sort ``runs`` into comparisons and groups, without evaluations after the environment step ``until``.

    ``problems`` are what could not be read besides; every notice is a sentence.
    """
    sets: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        env = run.section("env")
        # Runs of earlier versions were evaluated with the horizon of training.
        horizon = run.section("evaluation").get("horizon", env.get("horizon"))
        horizon = horizon if isinstance(horizon, int) else None
        # The same tasks in another order are the same task set.
        protocol = tuple(sorted(run.tasks)), str(env.get("reward", "unknown")), horizon
        sets.setdefault(protocol, []).append(run)
    comparisons = []
    for (_, reward, horizon), members in sets.items():
        tasks = members[0].tasks
        title = tasks[0] if len(tasks) == 1 else f"{len(tasks) or 'No'} tasks"
        title = next((name for name, known in _TASK_SETS.items() if set(known) == set(tasks)), title)
        comparisons.append(Comparison(title, tasks, reward, horizon))
        _add_groups(comparisons[-1], members, until)
    headings = _numbered([_heading(comparison, comparisons) for comparison in comparisons])
    for number, (comparison, heading) in enumerate(zip(comparisons, headings, strict=True), start=1):
        comparison.heading = heading
        stem = re.sub(r"[^a-z0-9]+", "-", comparison.title.lower()).strip("-")
        comparison.slug = stem if len(comparisons) == 1 else f"{number}-{stem}"
        comparison.notices += _comparison_notices(comparison)
    notices = [f"{problem}." for problem in problems] + _notices(comparisons, runs)
    return Study(comparisons, list(runs), notices)


def _add_groups(comparison: Comparison, runs: Sequence[Run], until: float | None) -> None:
    found: dict[str, tuple[dict[str, Any], list[Member]]] = {}
    for run in runs:
        settings = learning_settings(run)
        key = repr(sorted(settings.items()))
        found.setdefault(key, (settings, []))[1].append(Member(run, curves_of(run, comparison.tasks, until)))
    labels = _group_labels([settings for settings, _ in found.values()])
    for label, key in sorted(zip(labels, found, strict=True)):
        settings, members = found[key]
        by_seed: dict[Any, Member] = {}
        for member in sorted(members, key=lambda member: last_written(member.run.path)):
            if older := by_seed.get(member.run.seed):
                newer = f"{member.run.path} is newer, with the same settings and seed"
                comparison.notices.append(f"{older.run.path} is left out: {newer}.")
            by_seed[member.run.seed] = member
        members = sorted(by_seed.values(), key=lambda member: (member.run.seed is None, member.run.seed or 0))
        comparison.groups.append(Group(label, settings, members, series=len(comparison.groups)))


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
        words.append(comparison.horizon_text)
    return ", ".join(words)


def _numbered(names: Sequence[str]) -> list[str]:
    """Return the names as they are shown, with a number behind those that occurred before."""
    names = list(map(printable, names))
    times = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return [name if time == 1 else f"{name} ({time})" for name, time in zip(names, times, strict=True)]


def learning_settings(run: Run) -> dict[str, Any]:
    """Return the settings that decide what is learned, without the seed and what is derived from it."""
    return {
        key: re.sub(r"seed=\d+", "seed=*", value) if isinstance(value, str) else value
        for key, value in flatten(run.config).items()
        if (is_learned(key) or key in _TELL_APART)
        and not key.startswith("choices.")
        and key.rsplit(".", 1)[-1] != "seed"
    }


def differing_keys(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Return the keys whose values are not the same in all settings; a missing key counts as None."""
    keys = dict.fromkeys(key for values in settings for key in values)
    return [key for key in keys if len({repr(values.get(key)) for values in settings}) > 1]


def _group_labels(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Return a short label for each group: the fewest settings that distinguish the groups."""
    differing = differing_keys(settings)
    telling = [key for key in _TELLING if key in differing]
    rest = sorted(set(differing) - set(telling), key=lambda key: (key.count("."), key))
    chosen: list[str] = []
    distinct = 1
    for key in telling + rest:
        parts = {tuple(repr(values.get(name)) for name in [*chosen, key]) for values in settings}
        if len(parts) > distinct:
            distinct = len(parts)
            chosen.append(key)
    if not chosen:
        names = [_part(key, settings[0]) for key in _PLAIN if settings[0].get(key) not in (None, "none")]
        return _numbered([" · ".join(dict.fromkeys(names)) or "all runs"] * len(settings))
    for shorten in (True, False):
        labels = [" · ".join(_part(key, values, shorten) for key in chosen) for values in settings]
        if len(set(labels)) == len(labels):
            break
    # Two classes of one name, or numbers equal to six digits, read alike.
    return _numbered(labels)


def _part(key: str, values: dict[str, Any], shorten: bool = False) -> str:
    """Return what a label says of one setting, which a legend has room for."""
    value = values.get(key)
    if key == "transfer.source" and shorten:
        # outputs/mt1/reach-v3-537624e1/seed=1/checkpoints/best becomes reach-v3.
        found = re.search(r"([^/]+?)(?:-[0-9a-f]{8})?/seed=[^/]*(?:/|$)", str(value))
        value = found[1] if found else value
    if key == "algo.cls" and isinstance(value, str):
        return value.rsplit(".", 1)[-1]
    if key == "curriculum.name" and value == "none":
        return "no curriculum"
    if key == "transfer.source":
        return f"transfer from {value}" if value else "no transfer"
    if key in _TELLING and value is not None:
        return str(value)
    return f"{key.rsplit('.', 1)[-1]}={setting_text(value)}"


def setting_text(value: Any) -> str:
    """Return a setting as people write it on the command line."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(setting_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _notices(comparisons: Sequence[Comparison], runs: Sequence[Run]) -> list[str]:
    """Return what a reader must know of the whole report: what differs, other versions, damaged files."""
    notices = []
    protocols = [(frozenset(c.tasks), c.reward, c.horizon) for c in comparisons]
    if len(protocols) > 1:
        columns = zip(("tasks", "reward version", "horizon"), zip(*protocols, strict=True), strict=True)
        *names, last = [name for name, values in columns if len(set(values)) > 1]
        what = f"{', '.join(names)} and {last}" if names else last
        stand = f"they stand in {len(protocols)} separate comparisons"
        notices.append(f"The runs differ in {what}, which makes success rates incomparable: {stand}.")
    versions = Counter(run.version for run in runs)
    notices += [
        f"{number} of {len(runs)} runs were made by version {version} of this project, not {__version__}."
        for version, number in versions.items()
        if version not in (None, __version__)
    ]
    problems: dict[str, None] = {}
    for run in runs:
        # Logs are read on demand: what is wrong with one is known once it has been read.
        for log in ("evaluation", "timing", "training"):
            getattr(run, log)
        problems |= dict.fromkeys(run.problems)
    return notices + [f"{problem}." for problem in problems]


def _comparison_notices(comparison: Comparison) -> list[str]:
    """Return what a reader must know of a comparison: unfinished runs, few seeds, unequal budgets, episodes."""
    notices = []
    states = Counter(member.run.state for group in comparison.groups for member in group.members)
    unfinished = [f"{number} {state}" for state, number in states.most_common() if state != "finished"]
    if unfinished:
        notices.append(f"Not every run is finished ({', '.join(unfinished)}): their newest logs are used.")
    for group in comparison.groups:
        empty = [member.run.path for member in group.members if not member.curves]
        notices += [f"{path} has no complete evaluation yet: it is in no average." for path in empty]
        seeds = len(group.members) - len(empty)
        if 0 < seeds < FEW_SEEDS:
            few = f"{group.label} has only {plural(seeds, 'seed')}"
            notices.append(f"{few}: fewer than {FEW_SEEDS} say little about the spread.")
    for goals in comparison.kinds:
        newest = f"The newest evaluations on {GOALS[goals]}"
        curves = [curve for group in comparison.groups for curve in group.curves(goals)]
        steps = [curve.steps[curve.final()] for curve in curves]
        if max(steps) > 1.001 * min(steps):
            between = f"{count(min(steps))} and {count(max(steps))} steps"
            notices.append(f"{newest} lie between {between}: compare at one budget with --at-step.")
        episodes = [curve.episodes[:, curve.final()].min() for curve in curves]
        if max(episodes) != min(episodes):
            number = f"{min(episodes):.0f} to {max(episodes):.0f} episodes a task"
            notices.append(f"{newest} have {number}: those with fewer are less certain.")
    return notices


def plural(number: int, word: str) -> str:
    """Return a number with its noun: 1 seed, 2 seeds."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
