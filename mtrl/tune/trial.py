"""One trial of a search: a configuration trained with several seeds, ended early where it is hopeless."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna

from mtrl.config.values import written
from mtrl.errors import ConfigurationError, UnreadableRunError
from mtrl.experiment import compose_run, run_directory
from mtrl.rundir.lock import holder_of
from mtrl.rundir.run import Run, curves_of
from mtrl.tune.plan import Search

COMMAND = (sys.executable, "-m", "mtrl")
LOOK_EVERY = 2.0
"""Seconds between two looks at the evaluations of a run."""
_PATIENCE = 60.0
"""Seconds that a run is given to save itself."""
_PR_SET_PDEATHSIG = 1

Curve = list[tuple[int, float]]
"""The evaluations of a run: steps and mean success over its tasks, 0 to 1."""


class TrialFailedError(RuntimeError):
    """A trial has no result; the message is one sentence for the user."""


def run_seed(
    search: Search, trial: optuna.Trial, overrides: Sequence[str], seed: int, before: Sequence[float]
) -> float:
    """Train one seed of a trial and return its score, 0 to 1; ``before`` are the scores of the seeds before it.

    After every evaluation the mean over the seeds so far is reported to the trial, the present seed by its newest.

    Raises:
        optuna.TrialPruned: It is worse than the others.
        TrialFailedError: A run failed, or the configuration was refused.
    """
    words = [*search.overrides, *overrides, f"seed={seed}", f"output={written(str(search.folder / 'runs'))}"]
    log = search.folder / f"trial_{trial.number}_seed_{seed}.log"
    try:
        composition = compose_run(words)
    except ConfigurationError as error:
        raise TrialFailedError(f"trial {trial.number} cannot run: {error}") from error
    cfg, directory, reported = composition.config, run_directory(composition), 0
    # A run of an earlier search may still be saving itself.
    holder = holder_of(directory)
    if holder is not None:
        print(f"  waiting for {holder}, which is in {directory}", flush=True)
    while holder_of(directory) is not None:
        time.sleep(LOOK_EVERY)
    with log.open("w") as output:
        # In a session of its own: a signal for the search must not reach the run twice.
        process = subprocess.Popen(
            [*COMMAND, *words, "logging.progress=off"],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_ends_with(os.getpid()),
        )
    code = None
    try:
        while code is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(LOOK_EVERY)
            curve = learning_curve(directory)
            if code == 0:
                curve = to_the_end(curve, cfg.evaluation.every, cfg.total_steps)
            for step, success in curve[reported:]:
                trial.report(float(np.mean([*before, success])), len(before) * cfg.total_steps + step)
            reported = len(curve)
            if code is None and trial.should_prune():
                raise optuna.TrialPruned(f"at step {curve[-1][0]:,} of seed {len(before) + 1}")
    finally:
        if code is None:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    if code != 0:
        raise TrialFailedError(f"trial {trial.number} failed with exit code {code}: see {log}")
    if not curve:
        raise TrialFailedError(f"{directory} holds no evaluation: look at its run.log")
    return score(curve, search.objective)


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


def learning_curve(directory: Path) -> Curve:
    """Return (step, mean success over tasks) of each whole evaluation of a run, empty before the first."""
    try:
        run = Run(directory)
    except UnreadableRunError:
        return []
    curves = curves_of(run, run.tasks)
    if not curves:
        return []
    steps, success = next(iter(curves.values())).mean()
    return list(zip(steps.astype(int).tolist(), success.tolist(), strict=True))


def to_the_end(curve: Curve, every: int, total: int) -> Curve:
    """Return ``curve`` to step ``total``, with the last value every ``every`` steps where the run ended early.

    Otherwise a run that ``stop.success`` has ended would lose against one that is as good later: it lacks the good
    part of its curve.
    """
    if not curve:
        return []
    step, success = curve[-1]
    rest = [*range(step + every, total, every), total] if step < total else []
    return [*curve, *((later, success) for later in rest)]


def score(curve: Curve, objective: str) -> float:
    """Return what a run reached: in its last evaluation, or on average over all of them."""
    return curve[-1][1] if objective == "final" else float(np.mean([success for _, success in curve]))
