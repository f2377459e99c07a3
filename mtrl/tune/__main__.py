"""``python -m mtrl.tune experiment=... n_trials=...``: search for the values of a recipe that learn best.

Each trial trains the same configuration with several seeds, each in a process of its own, so that a crash takes
only itself. Everything is kept under ``<output>/tune/<name>/``; the same command continues an interrupted search.
"""

import signal
import sys
from collections.abc import Sequence

from mtrl.errors import FAILED, REFUSED, ConfigurationError
from mtrl.packages import installed
from mtrl.streams import run_command

USAGE = """\
usage: python -m mtrl.tune [key=value ...]

Every key of python -m mtrl, which holds for all trials, and:
  n_trials=20       trials in all; a larger number continues the search
  seeds=1,2,3       seeds of each trial
  search=...        what is varied: a file of conf/search (by default the algorithm's), or a YAML file
  sampler=tpe       tpe, random, gp, cmaes
  prune=true        end a trial that is worse than the median of the others at the same step, once the first half of
                    its first run is over
  objective=final   final: success of the last evaluation; curve: mean over all, which rewards learning early; a run
                    that stop.success ends counts as if it had stayed as good to its last step
  name=...          directory below outputs/tune; by default <experiment>-<search>
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Search, and return the exit code: 0, 1 if trials keep failing, 2 for what cannot be searched."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in (["--help"], ["-h"]):
        print(USAGE, end="")
        return 0
    try:
        if not installed("optuna"):
            raise ConfigurationError("optuna is missing: install it with pip install 'mtrl-metaworld[tune]'")
        # Imported late, for they need optuna.
        from mtrl.tune.plan import describe, plan
        from mtrl.tune.study import open_study, run_search

        search = plan(words)
        study = None if search.composition.config.dry_run else open_study(search)
    except ConfigurationError as error:
        print(f"mtrl: {error}", file=sys.stderr)
        return REFUSED
    print(describe(search), flush=True)
    if study is None:
        return 0
    # SIGTERM ends a search as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 0 if run_search(search, study) else FAILED
    except KeyboardInterrupt:
        print("mtrl: interrupted; the same command continues the search", file=sys.stderr)
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    run_command(main)
