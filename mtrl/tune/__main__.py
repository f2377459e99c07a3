"""``python -m mtrl.tune experiment=... n_trials=...``: search for the values of a recipe that learn best.

Each trial trains the same configuration with several seeds, each in a process of its own, so that a crash takes
only itself. Everything is kept under ``<output>/tune/<name>/``; the same command goes on where it was.
"""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING

from mtrl.errors import ConfigurationError
from mtrl.tune.plan import USAGE, Search, describe, plan
from mtrl.tune.results import write_results
from mtrl.tune.space import written
from mtrl.tune.study import begun, open_study
from mtrl.tune.trial import TrialFailedError, run_trial

if TYPE_CHECKING:
    from optuna import Study

_FAILURES = 3
"""Trials in a row that may fail before the search ends."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Search, and return the exit code: 0, 1 if trials keep failing, 2 for what cannot be searched."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in (["--help"], ["-h"]):
        print(USAGE, end="")
        return 0
    try:
        search = plan(words)
        if search.composition.config.dry_run:
            print(describe(search))
            return 0
        if find_spec("optuna") is None:
            raise ConfigurationError("optuna is missing: install it with pip install 'mtrl-metaworld[tune]'")
        study = open_study(search)
    except ConfigurationError as error:
        print(f"mtrl: {error}", file=sys.stderr)
        return 2
    before = signal.signal(signal.SIGTERM, _end)
    try:
        print(describe(search))
        return _search(search, study)
    except KeyboardInterrupt:
        print("mtrl: interrupted; the same command goes on", file=sys.stderr)
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _search(search: Search, study: "Study") -> int:
    import optuna
    from optuna.trial import TrialState

    failures = 0
    while begun(study) < search.options.n_trials:
        trial = study.ask()
        trial.set_user_attr("host", socket.gethostname())
        trial.set_user_attr("pid", os.getpid())
        values = {parameter.key: parameter.suggest(trial) for parameter in search.space}
        words = [f"{key}={written(value)}" for key, value in values.items()]
        print(f"trial {trial.number}: {' '.join(words)}", flush=True)
        try:
            scores = run_trial(
                trial,
                [*search.overrides, *words],
                search.options.seeds,
                search.folder,
                search.options.objective,
            )
        except optuna.TrialPruned as pruned:
            study.tell(trial, state=TrialState.PRUNED)
            print(f"  pruned {pruned}", flush=True)
        except TrialFailedError as error:
            trial.set_user_attr("reason", str(error))
            study.tell(trial, state=TrialState.FAIL)
            write_results(search, study)
            print(f"mtrl: {error}", file=sys.stderr, flush=True)
            failures += 1
            if failures == _FAILURES:
                print(f"mtrl: {_FAILURES} trials failed one after the other: mend the cause", file=sys.stderr)
                return 1
            continue
        else:
            mean = sum(scores) / len(scores)
            study.tell(trial, mean)
            seeds = ", ".join(f"{score:.1%}" for score in scores)
            print(f"  {mean:.1%} ({seeds}); the best is trial {study.best_trial.number}", flush=True)
        failures = 0
        write_results(search, study)
    write_results(search, study)
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    print(f"best: {search.folder / 'best.yaml'}" if done else "no trial was completed: raise n_trials")
    return 0


if __name__ == "__main__":
    sys.exit(main())
