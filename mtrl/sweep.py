"""Members of a sweep: each in a process of its own, so that a crash takes only itself."""

import subprocess
import sys
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from mtrl.compose import Composition
from mtrl.identity import run_directory
from mtrl.rundir import Run, RunError
from mtrl.status import render, summary


def run_member(_: DictConfig) -> int:
    """Run the member that Hydra's launcher has composed; its exit code stops no other member."""
    overrides = list(HydraConfig.get().overrides.task)
    return subprocess.run([sys.executable, "-m", "mtrl", *overrides], check=False).returncode


def show_plan(compositions: Sequence[Composition]) -> None:
    """Print where each member will live."""
    console = Console(highlight=False)
    console.print(f"{len(compositions)} runs:")
    for composition in compositions:
        console.print(f"  {run_directory(composition)}", soft_wrap=True)


def show_results(compositions: Sequence[Composition]) -> int:
    """Print what the members came to; return 0 if all finished and 1 otherwise."""
    runs, missing = [], []
    for directory in map(run_directory, compositions):
        try:
            runs.append(Run(directory))
        except RunError:
            missing.append(directory)
    rows = [summary(run) for run in runs]
    Console().print(render(rows))
    for directory in missing:
        print(f"{directory}: did not start", file=sys.stderr)
    return 1 if missing or any(run.state != "finished" for run in runs) else 0
