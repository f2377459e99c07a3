"""Which policies a command takes: its options, and the runs that a directory stands for. Imports no torch."""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtrl.rundir.models import BEST, CHECKPOINTS, LAST, MODEL
from mtrl.rundir.run import find_runs

if TYPE_CHECKING:
    from mtrl.evaluation.policy import Policy


def add_source_options(parser: argparse.ArgumentParser, *, several: bool) -> None:
    """Add the options that name policies, and that describe a zip without its run."""
    what = "run directories, directories that hold runs, checkpoints, or zips of stable-baselines3"
    name, number = ("runs", "+") if several else ("run", None)
    parser.add_argument(name, nargs=number, metavar="RUN", help=what)
    parser.add_argument(
        "--goals",
        choices=("train", "heldout"),
        help="the run's own 50 goals, or 50 that no run trains on; as the run was evaluated by default",
    )
    parser.add_argument(
        "--checkpoint",
        choices=(BEST, LAST),
        default=BEST,
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


def find_sources(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what to load and a sentence for what is not there; a directory that holds runs stands for all of them."""
    sources, problems = [], []
    for word in words:
        path, runs, missing = Path(word), [word], []
        if path.is_dir() and not any((path / name).exists() for name in (MODEL, "config.yaml", CHECKPOINTS)):
            runs, missing = find_runs([path])
        sources += map(str, runs)
        problems += missing
    return list(dict.fromkeys(sources)), problems


def read_source(source: str, options: argparse.Namespace) -> "Policy":
    """Return the policy that a source and the options of ``add_source_options`` name; raise as ``load`` does."""
    from mtrl.evaluation.policy import load

    with warnings.catch_warnings():
        # The commands name another version in their own way.
        warnings.filterwarnings("ignore", ".* was trained by mtrl ")
        return load(source, options.checkpoint, trust=options.trust, tasks=options.tasks, seed=options.seed)
