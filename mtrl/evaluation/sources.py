"""Which policies a command takes: its options, and the runs that a directory stands for. Imports no torch."""

import argparse
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtrl.errors import LoadError
from mtrl.rundir.models import BEST, CHECKPOINTS, LAST, MODEL
from mtrl.rundir.run import find_runs

if TYPE_CHECKING:
    from mtrl.evaluation.policy import Policy


def add_source_options(parser: argparse.ArgumentParser, *, several: bool) -> None:
    """Add the options that name policies, and that describe a zip without its run."""
    add, (name, number) = parser.add_argument, ("runs", "+") if several else ("run", None)
    what = "run directories, directories that hold runs, checkpoints, or zips of stable-baselines3"
    add(name, nargs=number, metavar="RUN", help=what)
    what = "the run's own 50 goals, or 50 that no run trains on; as the run was evaluated by default"
    add("--goals", choices=("train", "heldout"), help=what)
    what = (
        "of a run: best (the default), which its own evaluations have chosen and which on their goals therefore "
        "flatters it, or last, its newest"
    )
    add("--checkpoint", choices=(BEST, LAST), default=BEST, help=what)
    add("--trust", action="store_true", help="unpickle zips that lie in no run; this can run any program")
    names = {"type": lambda words: tuple(words.split(",")), "default": (), "metavar": "TASK,..."}
    add("--tasks", **names, help="of such a zip, in the order of its one-hot")
    add("--seed", type=int, help="of such a zip: the seed of its training goals")


def find_sources(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what to load and a sentence for what is not there; a directory that holds runs stands for all of them."""
    sources, problems = [], []
    for word in words:
        path, runs, missing = Path(word), [word], []
        if os.path.isdir(path) and not any(
            (path / name).exists() for name in (MODEL, "config.yaml", CHECKPOINTS)
        ):
            runs, missing = find_runs([path])
        sources += map(str, runs)
        problems += missing
    return list(dict.fromkeys(sources)), problems


def read_source(source: str, options: argparse.Namespace) -> tuple["Policy", list[str]]:
    """Return the policy that a source and the options name, and what ``load`` warns of.

    Raises:
        LoadError: As ``load`` does, or the tasks or the training goals are unknown.
    """
    from mtrl.evaluation.policy import load

    with warnings.catch_warnings(record=True, action="always", category=UserWarning) as said:
        known = {"trust": options.trust, "tasks": options.tasks, "seed": options.seed}
        policy = load(source, options.checkpoint, **known)
    if not policy.tasks:
        order = "give them in the order of its one-hot with --tasks reach-v3,push-v3"
        raise LoadError(f"{policy.model} does not name its tasks: {order}")
    if options.goals == "train" and policy.seed is None:
        goals = "give their --seed, or --goals heldout"
        raise LoadError(f"{policy.model} does not name the goals it was trained on: {goals}")
    policy.goals = options.goals or policy.goals
    return policy, [str(warning.message) for warning in said]
