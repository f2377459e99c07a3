"""What a reader must know to trust a report, in one sentence each."""

from collections import Counter
from collections.abc import Sequence

from mtrl import __version__
from mtrl.report.study import Comparison, Study
from mtrl.rundir.run import Run, flatten
from mtrl.status import count

FEW_SEEDS = 3
"""Fewer runs of a group than this are warned of."""


def study_notices(study: Study) -> list[str]:
    """Return what holds for the whole report: what cannot be compared, other versions, damaged files."""
    said = []
    protocols = [(frozenset(c.tasks), c.reward, c.horizon) for c in study.comparisons]
    if len(protocols) > 1:
        columns = zip(("tasks", "reward version", "horizon"), zip(*protocols, strict=True), strict=True)
        what = _list([name for name, values in columns if len(set(values)) > 1])
        said.append(
            f"The runs differ in {what}, which makes success rates incomparable: "
            f"they stand in {len(protocols)} separate comparisons."
        )
    problems = dict.fromkeys(problem for run in study.runs for problem in _all_problems(run))
    return said + _version_notices(study.runs) + [f"{problem}." for problem in problems]


def comparison_notices(comparison: Comparison) -> list[str]:
    """Return what holds for one comparison: unfinished runs, few seeds, unequal budgets and episodes."""
    said = [*comparison.left_out, *_states(comparison)]
    for goals in comparison.kinds:
        said += _unequal(comparison, goals)
    return said


def _states(comparison: Comparison) -> list[str]:
    said = []
    states = Counter(member.run.state for group in comparison.groups for member in group.members)
    unfinished = [f"{number} {state}" for state, number in states.most_common() if state != "finished"]
    if unfinished:
        said.append(f"Not every run is finished ({', '.join(unfinished)}): their newest logs are used.")
    for group in comparison.groups:
        empty = [member.run.path for member in group.members if not member.curves]
        said += [f"{path} has no complete evaluation yet: it is in no average." for path in empty]
        seeds = len(group.members) - len(empty)
        if 0 < seeds < FEW_SEEDS:
            number = "1 seed" if seeds == 1 else f"{seeds} seeds"
            said.append(
                f"{group.label} has only {number}: fewer than {FEW_SEEDS} say little about the spread."
            )
    return said


def _unequal(comparison: Comparison, goals: str) -> list[str]:
    curves = [m.curves[goals] for group in comparison.groups for m in group.with_goals(goals)]
    steps = [curve.steps[curve.final()] for curve in curves]
    episodes = [curve.episodes[:, curve.final()].min() for curve in curves]
    said = []
    newest = f"The newest evaluations on {goals} goals"
    if max(steps) > 1.001 * min(steps):
        between = f"{count(min(steps))} and {count(max(steps))} steps"
        said.append(f"{newest} lie between {between}: compare at one budget with --at-step.")
    if max(episodes) != min(episodes):
        number = f"{min(episodes):.0f} to {max(episodes):.0f} episodes a task"
        said.append(f"{newest} have {number}: those with fewer are less certain.")
    return said


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
        f"{number} of {len(runs)} runs were made by version {version} of this project, not {__version__}."
        for version, number in others.items()
    ]


def _all_problems(run: Run) -> list[str]:
    # Logs are read on demand: what is wrong with one is known once it has been asked for.
    for name in ("evaluation", "timing", "training"):
        getattr(run, name)
    return run.problems


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
