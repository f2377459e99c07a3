"""What a search came to: a table of its trials, and the best one as a tuning file."""

import csv
import io
from typing import TYPE_CHECKING

import yaml
from omegaconf import OmegaConf

from mtrl.config.compose import CONF, groups
from mtrl.experiment import is_learned
from mtrl.rundir.write import replace_file
from mtrl.tune.plan import Search
from mtrl.tune.space import written

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


def write_results(search: Search, study: "Study") -> None:
    """Write ``trials.csv`` and ``best.yaml``, a tuning file."""
    from optuna.trial import TrialState

    text = io.StringIO()
    keys = [parameter.key for parameter in search.space]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "success_rate", *keys])
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        cells = [trial.params.get(key, "") for key in keys]
        writer.writerow(
            [trial.number, trial.state.name.lower(), "" if trial.value is None else trial.value, *cells]
        )
    replace_file(search.folder / "trials.csv", text.getvalue())
    if any(trial.state is TrialState.COMPLETE for trial in trials):
        replace_file(search.folder / "best.yaml", tuning_file(search, study.best_trial))


def tuning_file(search: Search, best: "FrozenTrial") -> str:
    """Return the recipe's present tuning with the best values in it, as the text of a file of ``conf/tuning``."""
    choices = search.composition.choices
    name = f"{choices['experiment']}-{choices['algo']}.yaml"
    present = CONF / "tuning" / name
    values = OmegaConf.load(present) if present.is_file() else OmegaConf.create()
    own = [word.lstrip("+") for word in search.overrides if _belongs(_key(word))]
    own += [f"{key}={written(value)}" for key, value in best.params.items()]
    merged = OmegaConf.to_container(OmegaConf.merge(values, OmegaConf.from_dotlist(own)))
    seeds = ", ".join(map(str, search.options.seeds))
    options = [word for word in search.overrides if _key(word) in groups() and _key(word) not in _NAMED]
    holds = f"# Holds with {' '.join(options)}, which this file cannot choose\n" if options else ""
    return (
        "# @package _global_\n"
        f"# Trial {best.number}: {search.options.objective} success {best.value:.3f} over seeds {seeds}\n"
        f"# Place: conf/tuning/{name}; searched with: {' '.join(search.overrides) or 'no overrides'}\n"
        + holds
        + yaml.safe_dump(merged, sort_keys=False)
    )


_NAMED = ("experiment", "algo", "hardware")
"""Groups whose options are in the name of a tuning file, or change nothing that is learned."""


def _key(override: str) -> str:
    return override.split("=")[0].lstrip("+~")


def _belongs(key: str) -> bool:
    """Tell whether an override of the search is part of what was found; which task it was is not."""
    return is_learned(key) and key not in groups() and key != "task"
