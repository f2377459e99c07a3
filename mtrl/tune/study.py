"""The trials of a search: kept in an SQLite file, run one after the other, and written down as results.

optuna's other storage is a journal whose lock is a file: a killed process leaves it behind, and the next waits for
it. The locks of SQLite end with the process that holds them, and a write that was cut short is undone.
"""

import contextlib
import csv
import ctypes
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import optuna
import yaml
from omegaconf import OmegaConf
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from mtrl.config.compose import CONF, groups
from mtrl.config.types import is_learned, require
from mtrl.config.values import key_of, last_of_each, walk, written
from mtrl.errors import ConfigurationError, UnreadableRunError
from mtrl.experiment import compose_run, run_directory
from mtrl.rundir.environment import import_alike
from mtrl.rundir.lock import holder_of
from mtrl.rundir.run import Run, curves_of, process_exists
from mtrl.rundir.write import replace_file
from mtrl.text import printable
from mtrl.tune.plan import SAMPLERS, Search, as_overrides

COMMAND = (sys.executable, "-m", "mtrl")
LOOK_EVERY = 2.0
"""Seconds between two looks at the evaluations of a run."""
_PATIENCE = 60.0
"""Seconds that a run is given to save itself."""
_WARM_UP = 0.5
"""Share of the first run of a trial in which it is not pruned: many a good one learns late."""
_FAILURES = 3
"""Trials in a row that may fail before the search ends."""
_PR_SET_PDEATHSIG = 1

Curve = list[tuple[int, float]]
"""The evaluations of a run: steps and mean success over its tasks, 0 to 1."""


class TrialFailedError(RuntimeError):
    """A trial has no result; the message is one sentence for the user."""


def open_study(search: Search) -> optuna.Study:
    """Return the study of ``search``, a new one or the one that is continued.

    Raises:
        ConfigurationError: There is another study of this name, its file is damaged, or a sampler lacks its
            package.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder, database = search.folder, search.folder / "study.db"
    another = "begin another search with name=..."
    older = f"{folder} holds a search of mtrl 0.1.0, which this version cannot continue: {another}"
    require(not (folder / "journal.log").exists(), older)
    folder.mkdir(parents=True, exist_ok=True)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if search.prune:
        warm_up = int(_WARM_UP * search.composition.config.total_steps)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=warm_up)
    # A URI, in which a path may have any sign.
    storage = f"sqlite:///file:{quote(str(database.absolute()))}?uri=true"
    options = {"direction": "maximize", "pruner": pruner, "load_if_exists": True}
    try:
        study = optuna.create_study(storage=storage, study_name=folder.name, **options)
        earlier, n_trials = study.user_attrs.get("fixed"), len(study.trials)
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            f"{database} holds no search ({reason}): move it aside, or {another}"
        ) from error
    # What must not change from one start to the next, or the trials would not compare.
    fixed = {
        "overrides": sorted(search.overrides),
        "seeds": list(search.seeds),
        "objective": search.objective,
        "space": {key: distribution_to_json(range_) for key, range_ in search.space.items()},
    }
    if earlier is None:
        study.set_user_attr("fixed", earlier := fixed)
    changed = ", ".join(key for key, value in fixed.items() if earlier.get(key) != value)
    require(
        not changed, f"{folder} was begun with other {changed}, and its trials would not compare: {another}"
    )
    try:
        # The seed differs with the number of trials, or a search that continues would repeat those that it has.
        study.sampler = getattr(optuna.samplers, SAMPLERS[search.sampler])(seed=n_trials)
    except ImportError as error:
        raise ConfigurationError(
            f"sampler={search.sampler} needs a package that is missing ({str(error).splitlines()[0]}): "
            "install it, or use sampler=tpe"
        ) from error
    # Trials of a process that is gone are queued again; their runs continue from their checkpoints.
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        host, pid = trial.user_attrs.get("host"), trial.user_attrs.get("pid")
        if host == socket.gethostname() and isinstance(pid, int) and not process_exists(pid):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
    return study


def begun(study: optuna.Study) -> int:
    """Return how many trials are done or running; those that were queued again count once."""
    trials = study.get_trials(deepcopy=False)
    again = sum("again" in trial.user_attrs for trial in trials)
    return sum(trial.state is not TrialState.WAITING for trial in trials) - again


def run_search(search: Search, study: optuna.Study) -> bool:
    """Run trials until there are as many as asked for; return False if they keep failing, or none was completed."""
    failures = 0
    while begun(study) < search.n_trials:
        trial, scores = study.ask(search.space), []
        trial.set_user_attr("host", socket.gethostname())
        trial.set_user_attr("pid", os.getpid())
        words = as_overrides(trial.params)
        print(f"trial {trial.number}: {' '.join(words)}", flush=True)
        failures += 1
        try:
            for seed in search.seeds:
                scores.append(run_seed(search, trial, words, seed, scores))
        except TrialFailedError as error:
            trial.set_user_attr("reason", str(error))
            study.tell(trial, state=TrialState.FAIL)
            print(f"mtrl: {error}", file=sys.stderr, flush=True)
        except optuna.TrialPruned as pruned:
            failures = 0
            study.tell(trial, state=TrialState.PRUNED)
            print(f"  pruned {pruned}", flush=True)
        else:
            failures, mean = 0, sum(scores) / len(scores)
            study.tell(trial, mean)
            seeds = ", ".join(f"{score:.1%}" for score in scores)
            print(f"  {mean:.1%} ({seeds}); the best is trial {study.best_trial.number}", flush=True)
        _write_results(search, study)
        if failures == _FAILURES:
            print(f"mtrl: {_FAILURES} trials failed one after the other: fix the cause", file=sys.stderr)
            return False
    if _write_results(search, study):
        print(f"best: {search.folder / 'best.yaml'}")
        return True
    reasons = [trial.user_attrs["reason"] for trial in study.trials if "reason" in trial.user_attrs]
    why = f" ({len(reasons)} failed, the last because {reasons[-1]})" if reasons else ""
    print(f"mtrl: no trial was completed{why}: raise n_trials", file=sys.stderr)
    return False


def run_seed(
    search: Search, trial: optuna.Trial, overrides: Sequence[str], seed: int, before: Sequence[float]
) -> float:
    """Train one seed of a trial in a process of its own and return its score, 0 to 1.

    After every evaluation the mean over the seeds so far, whose scores are ``before``, is reported to the trial, the
    present seed by its newest.

    Raises:
        optuna.TrialPruned: It is worse than the others.
        TrialFailedError: A run failed, or the configuration was refused.
    """
    output = written(str(search.folder / "runs"))
    words = last_of_each([*search.overrides, *overrides, f"seed={seed}", f"output={output}"])
    log = search.folder / f"trial_{trial.number}_seed_{seed}.log"
    try:
        composition = compose_run(words)
    except ConfigurationError as error:
        raise TrialFailedError(f"trial {trial.number} cannot run: {error}") from error
    cfg, directory, reported = composition.config, run_directory(composition), 0
    # A run of an earlier search may still be saving itself.
    if holder := holder_of(directory):
        print(f"  waiting for {holder}, which is in {directory}", flush=True)
    while holder_of(directory) is not None:
        time.sleep(LOOK_EVERY)
    with log.open("w") as printed:
        # In a session of its own: a signal for the search must not reach the run twice.
        process = subprocess.Popen(
            [*COMMAND, *last_of_each([*words, "logging.progress=off"])],
            env=os.environ | import_alike(),
            stdout=printed,
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
    """Return the whole evaluations of a run, empty before the first."""
    try:
        run = Run(directory)
    except UnreadableRunError:
        return []
    for curve in curves_of(run, run.tasks).values():
        steps, success = curve.mean()
        return list(zip(steps.astype(int).tolist(), success.tolist(), strict=True))
    return []


def to_the_end(curve: Curve, every: int, total: int) -> Curve:
    """Return ``curve`` to step ``total``, with the last value every ``every`` steps where the run ended early.

    Otherwise a run that ``stop.success`` has ended would lose against one that is as good later: it lacks the good
    part of its curve.
    """
    step, success = curve[-1] if curve else (total, 0.0)
    rest = [*range(step + every, total, every), total] if step < total else []
    return [*curve, *((later, success) for later in rest)]


def score(curve: Curve, objective: str) -> float:
    """Return what a run reached: in its last evaluation, or on average over all of them."""
    return curve[-1][1] if objective == "final" else float(np.mean([success for _, success in curve]))


def _write_results(search: Search, study: optuna.Study) -> bool:
    """Write ``trials.csv`` and ``best.yaml``, a tuning file; return whether there is a best trial."""
    text, trials = io.StringIO(), study.get_trials(deepcopy=False)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "success_rate", *search.space])
    for trial in trials:
        cells = [trial.params.get(key, "") for key in search.space]
        writer.writerow([trial.number, trial.state.name.lower(), trial.value, *cells])
    replace_file(search.folder / "trials.csv", text.getvalue())
    completed = any(trial.state is TrialState.COMPLETE for trial in trials)
    if completed:
        replace_file(search.folder / "best.yaml", tuning_file(search, study.best_trial))
    return completed


def tuning_file(search: Search, best: FrozenTrial) -> str:
    """Return the recipe's present tuning with the best values in it, as the text of a file of ``conf/tuning``."""
    choices, options_of = search.composition.choices, groups()
    name = f"{choices['experiment']}-{choices['algo']}.yaml"
    # Which task it was is no part of what was found. The name of the file shows experiment and algorithm, and
    # hardware changes nothing that is learned.
    keys, found = list(map(key_of, search.overrides)), dict(walk(search.composition.values))
    chosen = [
        word
        for word, key in zip(search.overrides, keys, strict=True)
        if key in options_of and key not in ("experiment", "algo", "hardware")
    ]
    present = CONF / "tuning" / name
    merged = OmegaConf.load(present) if present.is_file() else OmegaConf.create()
    for key in keys:
        if key not in options_of and is_learned(key) and key != "task":
            OmegaConf.update(merged, key, found[key], force_add=True)
    merged = OmegaConf.merge(merged, OmegaConf.from_dotlist(as_overrides(best.params)))
    seeds = ", ".join(map(str, search.seeds))
    lines = [
        "# @package _global_",
        f"# Trial {best.number}: {search.objective} success {best.value:.3f} over seeds {seeds}",
        f"# Place: conf/tuning/{name}; searched with: {printable(' '.join(search.overrides)) or 'no overrides'}",
        *([f"# Holds with {' '.join(chosen)}, which this file cannot choose"] if chosen else []),
    ]
    return "\n".join([*lines, yaml.safe_dump(OmegaConf.to_container(merged), sort_keys=False)])
