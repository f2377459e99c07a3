"""The trials of a search on disk: begun, gone on with, and queued again where they were left half done."""

import socket
from typing import TYPE_CHECKING

from mtrl.errors import ConfigurationError
from mtrl.rundir.run import process_exists
from mtrl.tune.plan import Search

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler


_WARM_UP = 0.5
"""Share of the first run of a trial in which it is not pruned: many a good one learns late."""

_JOURNAL = "journal.log"


def open_study(search: Search) -> "Study":
    """Return the study of ``search``, begun or gone on with.

    Raises:
        ConfigurationError: There is another study of this name, its journal is damaged, or a sampler lacks its
            package.
    """
    import optuna

    from mtrl.tune.journal import MEND, open_journal

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search.folder.mkdir(parents=True, exist_ok=True)
    journal = search.folder / _JOURNAL
    backend = open_journal(journal)
    warm_up = int(_WARM_UP * search.composition.config.total_steps)
    pruner = (
        optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=warm_up)
        if search.options.prune
        else optuna.pruners.NopPruner()
    )
    try:
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name=search.options.name,
            direction="maximize",
            pruner=pruner,
            load_if_exists=True,
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError) as error:
        # Lines of JSON that are no records of optuna.
        raise ConfigurationError(f"{journal} holds no search: {MEND}") from error
    fixed = study.user_attrs.get("fixed")
    if fixed is None:
        study.set_user_attr("fixed", search.fixed())
    elif fixed != search.fixed():
        changed = ", ".join(key for key, value in search.fixed().items() if fixed.get(key) != value)
        raise ConfigurationError(
            f"{search.folder} was begun with other {changed}, and its trials would not compare: "
            "begin another search with name=..."
        )
    study.sampler = _sampler(search.options.sampler, len(study.trials))
    _requeue(study)
    return study


def _sampler(name: str, seed: int) -> "BaseSampler":
    import optuna

    classes = {
        "tpe": "TPESampler",
        "random": "RandomSampler",
        "gp": "GPSampler",
        "cmaes": "CmaEsSampler",
    }
    try:
        # The seed moves on with the trials, or a search that goes on would begin with those it has.
        return getattr(optuna.samplers, classes[name])(seed=seed)
    except ImportError as error:
        raise ConfigurationError(
            f"sampler={name} needs a package that is missing ({str(error).splitlines()[0]}): "
            "install it, or use sampler=tpe"
        ) from error


def _requeue(study: "Study") -> None:
    """Queue again what a process that is gone has left half done; its runs go on from their checkpoints."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        host, pid = trial.user_attrs.get("host"), trial.user_attrs.get("pid")
        if host == socket.gethostname() and isinstance(pid, int) and not process_exists(pid):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={"again": trial.number})


def begun(study: "Study") -> int:
    """Return how many trials are done or on their way, those that were queued again once."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    again = sum("again" in trial.user_attrs for trial in trials)
    return sum(trial.state is not TrialState.WAITING for trial in trials) - again
