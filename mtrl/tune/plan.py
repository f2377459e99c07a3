"""What a search is asked to do, read from the command line and checked before anything starts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mtrl.config.compose import Composition, compose_run
from mtrl.errors import ConfigurationError
from mtrl.tune.space import Parameter, read_space, written

SAMPLERS = ("tpe", "random", "gp", "cmaes")
OBJECTIVES = ("final", "curve")

USAGE = f"""\
usage: python -m mtrl.tune [key=value ...]

Every key of python -m mtrl, which holds for all trials, and:
  n_trials=20       trials in all; a larger number goes on
  seeds=1,2,3       seeds of each trial
  search=...        what is varied: a file of conf/search (by default the algorithm's), or a YAML file
  sampler=tpe       {", ".join(SAMPLERS)}
  prune=true        end a trial that is worse than the median of the others at the same step, once the first half of
                    its first run is over
  objective=final   final: success of the last evaluation; curve: mean over all, which rewards learning early; a run
                    that stop.success ends counts as if it had stayed as good to its last step
  name=...          directory below outputs/tune; by default <experiment>-<search>
"""


@dataclass(frozen=True, slots=True)
class Options:
    """The words of the command line that are not the run's."""

    n_trials: int = 20
    seeds: tuple[int, ...] = (1, 2, 3)
    search: str = ""
    sampler: str = "tpe"
    prune: bool = True
    objective: str = "final"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Search:
    """A checked search."""

    options: Options
    overrides: tuple[str, ...]
    space: tuple[Parameter, ...]
    composition: Composition
    folder: Path

    def fixed(self) -> dict[str, Any]:
        """Return what must not change from one start to the next, or the trials would not compare."""
        space = [asdict(parameter) | {"choices": list(parameter.choices)} for parameter in self.space]
        return {
            "overrides": sorted(self.overrides),
            "seeds": list(self.options.seeds),
            "objective": self.options.objective,
            "space": space,
        }


def plan(words: Sequence[str]) -> Search:
    """Return what the words of the command line ask for, each end of each range checked.

    Raises:
        ConfigurationError: It cannot be searched, in one sentence.
    """
    own = {field.name for field in fields(Options)}
    given = dict(word.split("=", 1) for word in words if word.split("=")[0] in own and "=" in word)
    overrides = tuple(word for word in words if word.split("=")[0] not in own)
    for word in words:
        if "=" not in word:
            raise ConfigurationError(f"{word} is no override: write key=value, or --help")
    for override in overrides:
        if override.split("=")[0] == "seed":
            raise ConfigurationError(f"{override} is one seed: name those of each trial with seeds=1,2,3")
    composition = compose_run(overrides)
    options = _options(given, composition)
    space = tuple(read_space(options.search))
    _check_space(overrides, space)
    folder = Path(composition.config.output) / "tune" / options.name
    return Search(options, overrides, space, composition, folder)


def _check_space(overrides: Sequence[str], space: Sequence[Parameter]) -> None:
    """Refuse a parameter whose ends cannot run; all first ends at once and so on, for each look takes time."""
    try:
        for place in range(max(len(parameter.ends) for parameter in space)):
            ends = [
                (parameter.key, parameter.ends[min(place, len(parameter.ends) - 1)]) for parameter in space
            ]
            compose_run([*overrides, *(f"{key}={written(value)}" for key, value in ends)])
    except ConfigurationError:
        # One by one: that says which it is, and two ends may be refused together that each can run.
        for parameter in space:
            for value in parameter.ends:
                compose_run([*overrides, f"{parameter.key}={written(value)}"])


def _options(given: dict[str, str], composition: Composition) -> Options:
    try:
        n_trials = int(float(given.get("n_trials", "20")))
        seeds = tuple(int(seed) for seed in given.get("seeds", "1,2,3").strip("[]").split(","))
    except ValueError as error:
        raise ConfigurationError(f"n_trials and seeds are whole numbers: {error}") from error
    if n_trials < 1 or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigurationError(
            f"n_trials={n_trials} seeds={seeds}: give one or more trials, and distinct seeds"
        )
    for key, choices in (("sampler", SAMPLERS), ("objective", OBJECTIVES), ("prune", ("true", "false"))):
        if key in given and given[key] not in choices:
            raise ConfigurationError(f"{key}={given[key]} is not one of {', '.join(choices)}")
    search = given.get("search") or composition.choices["algo"]
    name = given.get("name") or f"{composition.choices['experiment']}-{Path(search).stem}".replace("/", "-")
    return Options(
        n_trials,
        seeds,
        search,
        given.get("sampler", "tpe"),
        given.get("prune", "true") == "true",
        given.get("objective", "final"),
        name,
    )


def describe(search: Search) -> str:
    """Return what is about to be searched, in a few lines."""
    cfg, options = search.composition.config, search.options
    lines = [
        f"{options.n_trials} trials of {cfg.experiment} with seeds {', '.join(map(str, options.seeds))}, "
        f"{cfg.total_steps:,} environment steps each, in {search.folder}"
    ]
    for parameter in search.space:
        ends = ", ".join(map(written, parameter.ends))
        lines.append(f"  {parameter.key}: {ends if parameter.choices else ends.replace(', ', ' to ')}")
    return "\n".join(lines)
