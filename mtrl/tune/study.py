"""The trials of a search: kept in an SQLite file, run one after the other, and written down as results.

optuna's other storage is a journal whose lock is a file: a killed process leaves it behind, and the next waits for
it. The locks of SQLite end with the process that holds them, and a write that was cut short is undone.
"""

import csv
import io
import os
import socket
import sys

import optuna
import yaml
from omegaconf import OmegaConf
from optuna import samplers
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from mtrl.config.compose import CONF, groups
from mtrl.config.types import is_learned
from mtrl.config.values import key_of
from mtrl.errors import ConfigurationError
from mtrl.rundir.run import process_exists
from mtrl.rundir.write import replace_file
from mtrl.tune.plan import Search, as_overrides
from mtrl.tune.trial import TrialFailedError, run_seed

_WARM_UP = 0.5
"""Share of the first run of a trial in which it is not pruned: many a good one learns late."""
_FAILURES = 3
"""Trials in a row that may fail before the search ends."""
_SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "gp": "GPSampler", "cmaes": "CmaEsSampler"}


def open_study(search: Search) -> optuna.Study:
    """Return the study of ``search``, a new one or the one that is continued.

    Raises:
        ConfigurationError: There is another study of this name, its file is damaged, or a sampler lacks its
            package.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder, database, another = (
        search.folder,
        search.folder / "study.db",
        "begin another search with name=...",
    )
    if (folder / "journal.log").exists():
        raise ConfigurationError(
            f"{folder} holds a search of mtrl 0.1.0, which this version cannot continue: {another}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if search.prune:
        warm_up = int(_WARM_UP * search.composition.config.total_steps)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=warm_up)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{database}",
            study_name=folder.name,
            direction="maximize",
            pruner=pruner,
            load_if_exists=True,
        )
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
        study.set_user_attr("fixed", fixed)
    elif earlier != fixed:
        changed = ", ".join(key for key, value in fixed.items() if earlier.get(key) != value)
        raise ConfigurationError(
            f"{folder} was begun with other {changed}, and its trials would not compare: {another}"
        )
    try:
        # The seed differs with the number of trials, or a search that continues would repeat those that it has.
        study.sampler = getattr(samplers, _SAMPLERS[search.sampler])(seed=n_trials)
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
    """Run trials until there are as many as asked for; return False if they keep failing."""
    failures = 0
    while begun(study) < search.n_trials:
        trial = study.ask(search.space)
        trial.set_user_attr("host", socket.gethostname())
        trial.set_user_attr("pid", os.getpid())
        words = as_overrides(trial.params)
        print(f"trial {trial.number}: {' '.join(words)}", flush=True)
        try:
            scores: list[float] = []
            for seed in search.seeds:
                scores.append(run_seed(search, trial, words, seed, scores))
        except TrialFailedError as error:
            failures += 1
            trial.set_user_attr("reason", str(error))
            study.tell(trial, state=TrialState.FAIL)
            print(f"mtrl: {error}", file=sys.stderr, flush=True)
        except optuna.TrialPruned as pruned:
            failures = 0
            study.tell(trial, state=TrialState.PRUNED)
            print(f"  pruned {pruned}", flush=True)
        else:
            failures = 0
            mean = sum(scores) / len(scores)
            study.tell(trial, mean)
            seeds = ", ".join(f"{score:.1%}" for score in scores)
            print(f"  {mean:.1%} ({seeds}); the best is trial {study.best_trial.number}", flush=True)
        _write_results(search, study)
        if failures == _FAILURES:
            print(f"mtrl: {_FAILURES} trials failed one after the other: fix the cause", file=sys.stderr)
            return False
    best = _write_results(search, study)
    print(f"best: {search.folder / 'best.yaml'}" if best else "no trial was completed: raise n_trials")
    return True


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
    own, chosen = [], []
    for word in search.overrides:
        key = key_of(word)
        if key in options_of:
            if key not in ("experiment", "algo", "hardware"):
                chosen.append(word)
        elif is_learned(key) and key != "task":
            own.append(word.lstrip("+"))
    present = CONF / "tuning" / name
    merged = OmegaConf.merge(
        OmegaConf.load(present) if present.is_file() else OmegaConf.create(),
        OmegaConf.from_dotlist([*own, *as_overrides(best.params)]),
    )
    seeds = ", ".join(map(str, search.seeds))
    lines = [
        "# @package _global_",
        f"# Trial {best.number}: {search.objective} success {best.value:.3f} over seeds {seeds}",
        f"# Place: conf/tuning/{name}; searched with: {' '.join(search.overrides) or 'no overrides'}",
        *([f"# Holds with {' '.join(chosen)}, which this file cannot choose"] if chosen else []),
    ]
    return "\n".join([*lines, yaml.safe_dump(OmegaConf.to_container(merged), sort_keys=False)])
