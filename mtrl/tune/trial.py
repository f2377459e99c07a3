"""One trial of a search: a configuration trained with several seeds, ended early where it is hopeless."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mtrl.config.compose import compose_run
from mtrl.errors import ConfigurationError, RunError
from mtrl.experiment import run_directory
from mtrl.rundir.lock import holder_of
from mtrl.rundir.run import Run

if TYPE_CHECKING:
    from optuna import Trial

COMMAND = (sys.executable, "-m", "mtrl")
LOOK_EVERY = 2.0
"""Seconds between two looks at the evaluations of a run."""
_PATIENCE = 60.0
"""Seconds that a run is given to save itself."""


class TrialFailedError(RuntimeError):
    """A trial has no result; the message is one sentence for the user."""


def run_trial(
    trial: "Trial", overrides: Sequence[str], seeds: Sequence[int], folder: Path, objective: str
) -> list[float]:
    """Train each seed in turn and return what each reached, 0 to 1.

    After every evaluation the trial is told the mean over the seeds so far, the present one by its newest.

    Args:
        trial: Told how the runs go.
        overrides: The configuration.
        seeds: Seeds to train.
        folder: Where the runs and their output go.
        objective: "final" or "curve".

    Raises:
        optuna.TrialPruned: It is worse than the others.
        TrialFailedError: A run failed, or the configuration was refused.
    """
    scores: list[float] = []
    for seed in seeds:
        words = [*overrides, f"seed={seed}", f"output={folder / 'runs'}"]
        scores.append(
            _run_seed(trial, words, scores, folder / f"trial_{trial.number}_seed_{seed}.log", objective)
        )
    return scores


def _run_seed(trial: "Trial", words: list[str], before: list[float], log: Path, objective: str) -> float:
    import optuna

    try:
        composition = compose_run(words)
    except ConfigurationError as error:
        raise TrialFailedError(f"trial {trial.number} cannot run: {error}") from error
    cfg, directory, told = composition.config, run_directory(composition), 0
    offset = len(before) * cfg.total_steps
    _wait_until_free(directory)
    with log.open("w") as output:
        # In a session of its own: a signal for the search must not reach the run twice.
        process = subprocess.Popen(
            [*COMMAND, *words, "logging.progress=off"],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_ends_with(os.getpid()),
        )
        try:
            code = None
            while code is None:
                code = _wait(process, LOOK_EVERY)
                curve = learning_curve(directory)
                if code == 0:
                    curve = to_the_end(curve, cfg.evaluation.every, cfg.total_steps)
                for step, success in curve[told:]:
                    trial.report(float(np.mean([*before, success])), offset + step)
                told = len(curve)
                if code is None and trial.should_prune():
                    raise optuna.TrialPruned(f"at step {curve[-1][0]:,} of seed {len(before) + 1}")
        finally:
            _stop(process)
    if code != 0:
        raise TrialFailedError(f"trial {trial.number} failed with exit code {code}: see {log}")
    if not curve:
        raise TrialFailedError(f"{directory} holds no evaluation: look at its run.log")
    return score(curve, objective)


def _wait_until_free(directory: Path) -> None:
    """Wait for a process that still holds the run: it may be saving what an earlier search had begun."""
    holder = holder_of(directory)
    if holder is not None:
        print(f"  waiting for {holder}, which is in {directory}", flush=True)
    while holder_of(directory) is not None:
        time.sleep(LOOK_EVERY)


_PR_SET_PDEATHSIG = 1


def _ends_with(parent: int) -> Callable[[], None] | None:
    """Return what makes a child save itself and end when ``parent`` ends, however that does; None off Linux."""
    if not sys.platform.startswith("linux"):
        return None
    # Looked up here, for the child must do as little as it can before it becomes another program.
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGTERM)

    return tie


def learning_curve(directory: Path) -> list[tuple[int, float]]:
    """Return (step, mean success over tasks) of each whole evaluation of a run, empty before the first."""
    if not (directory / "config.yaml").is_file():
        return []
    try:
        run = Run(directory)
    except RunError:
        return []
    table = run.evaluation
    points = []
    for step in np.unique(table["step"]) if len(table) else ():
        # The last evaluation may be made twice at one step, small and official: the newer rows count.
        rows = table.take(table["step"] == step)
        rates = dict(zip(rows["task"].tolist(), rows["success_rate"].tolist(), strict=True))
        if set(rates) == set(run.tasks):
            points.append((int(step), float(np.mean(list(rates.values())))))
    return points


def to_the_end(curve: Sequence[tuple[int, float]], every: int, total: int) -> list[tuple[int, float]]:
    """Return ``curve`` to step ``total``, evaluated every ``every`` steps: where a run ended early, at its last.

    A run that ``stop.success`` has ended would else lose against one that is as good later: it lacks the good part.
    """
    if not curve:
        return []
    step, success = curve[-1]
    rest = [*range(step + every, total, every), total] if step < total else []
    return [*curve, *((later, success) for later in rest)]


def score(curve: Sequence[tuple[int, float]], objective: str) -> float:
    """Return what a run reached: in its last evaluation, or on average over all of them."""
    return curve[-1][1] if objective == "final" else float(np.mean([success for _, success in curve]))


def _wait(process: subprocess.Popen, seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _stop(process: subprocess.Popen) -> None:
    """Ask a run that still goes to save itself and end."""
    if process.poll() is not None:
        return
    process.terminate()
    if _wait(process, _PATIENCE) is None:
        process.kill()
        process.wait()
