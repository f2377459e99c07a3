"""The command ``python -m mtrl.evaluation RUN...``: play saved policies and compare what they reach."""

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtrl.rundir.layout import MODEL, checkpoints_of
from mtrl.rundir.models import CHECKPOINTS
from mtrl.rundir.run import find_runs
from mtrl.statistics import wilson_interval
from mtrl.tasks import GOALS

if TYPE_CHECKING:
    from mtrl.evaluation.policy import Policy
    from mtrl.evaluation.protocol import Evaluation

COPIES = 10
"""Copies of each task that play side by side: the policy answers all of them at once."""

COLUMNS = (
    "run",
    "step",
    "task",
    "goals",
    "episodes",
    "success_rate",
    "low",
    "high",
    "mean_return",
    "mean_length",
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One policy and what it reached."""

    name: str
    policy: "Policy"
    evaluation: "Evaluation"
    seconds: float

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per task, with the ends of Wilson's 95 % interval of its success rate."""
        rows = []
        for result in self.evaluation.results:
            low, high = wilson_interval(result.success_rate * result.episodes, result.episodes)
            interval = {"low": float(low), "high": float(high)}
            rows.append({"run": self.name, "step": self.policy.step, **asdict(result), **interval})
        return rows


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mtrl.evaluation",
        description="Play the policies of runs by the protocol: deterministic, each goal in turn, full episodes. "
        "What is played is a run's best model unless --checkpoint says otherwise; python -m mtrl.report shows what "
        "the last one reached.",
    )
    add_source_options(parser, "+")
    parser.add_argument(
        "--episodes", type=int, default=GOALS, help=f"of each task; {GOALS}, the official evaluation"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    form.add_argument("--csv", action="store_true", help="print CSV, one row a run and task")
    options = parser.parse_args(arguments)
    if options.episodes < 1:
        parser.error("--episodes: an evaluation needs at least 1 episode")
    return options


def add_source_options(parser: argparse.ArgumentParser, count: str | None) -> None:
    """Add what names a policy, and what a zip without its run does not say of itself."""
    what = "run directories, what holds them, checkpoints, or zips of stable-baselines3"
    parser.add_argument("runs" if count else "run", nargs=count, metavar="RUN", help=what)
    parser.add_argument(
        "--goals",
        choices=("train", "heldout"),
        help="the run's own 50 goals, or 50 that no run trains on; as the run was evaluated by default",
    )
    parser.add_argument(
        "--checkpoint",
        choices=CHECKPOINTS,
        default=CHECKPOINTS[0],
        help="of a run: best (the default), which its own evaluations have chosen and which on their goals therefore "
        "flatters it, or last, its newest",
    )
    parser.add_argument(
        "--trust", action="store_true", help="unpickle zips that lie in no run; this can run any program"
    )
    parser.add_argument(
        "--tasks",
        type=lambda words: tuple(words.split(",")),
        default=(),
        metavar="TASK,...",
        help="of such a zip, in the order of its one-hot",
    )
    parser.add_argument("--seed", type=int, help="of such a zip: the seed of its training goals")


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate, print, and return the exit code: 0, or 2 if something could not be evaluated."""
    options = parse(arguments)
    sources, problems = find_sources(options.runs)
    measured: list[Measured] = []
    for source in sources:
        try:
            measured.append(measure(source, options))
        except ValueError as error:
            problems.append(str(error))
    notes = _notes(measured)
    for sentence in (*problems, *notes):
        print(f"mtrl: {sentence}", file=sys.stderr)
    if options.json:
        print(json.dumps({"runs": [_as_json(one) for one in measured], "problems": problems, "notes": notes}))
    elif options.csv:
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for one in measured for row in one.rows())
    elif measured:
        from mtrl.evaluation.tables import show

        show(measured, notes)
    return 2 if problems else 0


def measure(source: str, options: argparse.Namespace) -> Measured:
    """Load one policy and play it.

    Raises:
        ValueError: It cannot be loaded or played, in one sentence.
    """
    import torch

    from mtrl.evaluation.policy import read_policy
    from mtrl.hardware import available_cores

    torch.set_num_threads(max(1, available_cores() // 2))
    policy = read_policy(
        source, options.checkpoint, trust=options.trust, tasks=options.tasks, seed=options.seed
    )
    started = time.perf_counter()
    evaluation = play(policy, options.episodes, options.goals)
    return Measured(_name(source), policy, evaluation, time.perf_counter() - started)


def play(policy: "Policy", episodes: int, goals: str | None = None) -> "Evaluation":
    """Return what ``policy`` reaches in ``episodes`` episodes of each of its tasks.

    Args:
        policy: A loaded policy.
        episodes: Of each task; 50 is the official evaluation.
        goals: "train", "heldout", or None for those of the run's own evaluation.

    Raises:
        ValueError: The tasks or the training goals are unknown, in one sentence.
    """
    from mtrl.env.make import make_vec_env
    from mtrl.evaluation.protocol import evaluate

    goals = check_playable(policy, goals)
    setting = policy.setting
    env = make_vec_env(
        policy.tasks,
        min(COPIES, episodes),
        seed=setting.seed or 0,
        goals=goals,
        horizon=setting.horizon,
        reward=setting.reward,
        task_id=policy.task_id,
    )
    try:
        return evaluate(lambda obs: policy.predict(obs)[0], env, policy.tasks, episodes, goals)
    finally:
        env.close()


def check_playable(policy: "Policy", goals: str | None) -> str:
    """Return which goals to play.

    Raises:
        ValueError: The tasks or the training goals are unknown, in one sentence.
    """
    if not policy.tasks:
        raise ValueError(
            f"{policy.model} does not say what its tasks are: name them in the order of its one-hot with "
            "--tasks reach-v3,push-v3"
        )
    if goals == "train" and policy.setting.seed is None:
        raise ValueError(
            f"{policy.model} does not say which goals it was trained on: give their --seed, or --goals heldout"
        )
    return goals or policy.setting.goals


def find_sources(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what to load; a directory that holds runs stands for all of them."""
    sources, problems = [], []
    for word in words:
        path = Path(word)
        one = not path.is_dir() or (path / MODEL).is_file() or (path / "config.yaml").is_file()
        if one or checkpoints_of(path).is_dir():
            sources.append(word)
            continue
        runs, complaints = find_runs([path])
        sources += map(str, runs)
        problems += complaints
    return list(dict.fromkeys(sources)), problems


def _name(source: str) -> str:
    return source.rstrip("/")


def _notes(measured: Sequence[Measured]) -> list[str]:
    """Return what a reader of the figures must know: whatever sets the runs' protocols apart."""
    found = [one.policy.setting.version_note(one.name) for one in measured]
    notes = [note for note in found if note is not None]
    for what, of in (
        ("rewards, so returns do not compare", lambda one: one.policy.setting.reward),
        ("horizons, so nothing compares", lambda one: one.policy.setting.horizon),
        ("goals, so success rates do not compare", lambda one: one.evaluation.results[0].goals),
        ("tasks, so means do not compare", lambda one: sorted(one.policy.tasks)),
    ):
        values = list(dict.fromkeys(str(of(one)) for one in measured))
        if len(values) > 1:
            notes.append(f"the runs have different {what}: {' and '.join(values)}")
    return notes


def _as_json(one: Measured) -> dict[str, Any]:
    setting, evaluation = one.policy.setting, one.evaluation
    return {
        "run": one.name,
        "model": str(one.policy.model),
        "step": one.policy.step,
        "seed": setting.seed,
        "reward": setting.reward,
        "horizon": setting.horizon,
        "success_rate": evaluation.success_rate,
        "mean_return": evaluation.mean_return,
        "seconds": round(one.seconds, 3),
        "tasks": [{k: v for k, v in row.items() if k not in ("run", "step")} for row in one.rows()],
    }
