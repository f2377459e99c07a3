"""What a search is asked to do: options of the command line and a file of ranges, checked before anything starts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mtrl.checks import check_writable
from mtrl.config.compose import CONF, groups
from mtrl.config.mistakes import check_once
from mtrl.config.types import is_number, one_of, require, whole
from mtrl.config.values import key_of, written
from mtrl.errors import ConfigurationError, DamagedError
from mtrl.experiment import Composition, compose_run
from mtrl.rundir.read import read_yaml
from mtrl.tasks import check_seed

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "gp": "GPSampler", "cmaes": "CmaEsSampler"}
_DEFAULTS = {"n_trials": "20", "seeds": "1,2,3", "search": "", "name": ""}
_DEFAULTS |= {"sampler": "tpe", "prune": "true", "objective": "final"}
"""The options that are the search's and not the run's, as ``python -m mtrl.tune --help`` explains them."""
_CHECKS = {
    "sampler": one_of(*SAMPLERS),
    "prune": one_of("true", "false"),
    "objective": one_of("final", "curve"),
}
_EXAMPLE = "algo.tau: {low: 0.001, high: 0.1, log: true} or algo.gamma: {choices: [0.9, 0.99]}"


@dataclass(frozen=True, slots=True)
class Search:
    """A checked search; ``overrides`` hold for all trials, ``space`` has the keys that vary with their ranges."""

    n_trials: int
    seeds: tuple[int, ...]
    sampler: str
    prune: bool
    objective: str
    overrides: tuple[str, ...]
    space: dict[str, BaseDistribution]
    composition: Composition
    folder: Path


def plan(words: Sequence[str]) -> Search:
    """Return what the words of the command line ask for, each end of each range checked.

    Raises:
        ConfigurationError: It cannot be searched, in one sentence.
    """
    options, overrides = dict[str, str](), []
    for word in words:
        key, (_, given, value) = key_of(word), word.partition("=")
        require(bool(given), f"{word} is no override: write key=value, or --help")
        require(key != "seed", f"seed={value} is one seed: name those of each trial with seeds=1,2,3")
        require(
            not key.startswith("hydra/"),
            f"{word} is for sweeps, and a search trains one run at a time: leave it out",
        )
        require(
            key not in options,
            f"{key}={options.get(key)} and {word} exclude each other: leave one of them out",
        )
        if key in _DEFAULTS:
            options[key] = value
        else:
            overrides.append(word)
    options = _DEFAULTS | options
    check_once(overrides)
    composition = compose_run(overrides)
    try:
        number = float(options["n_trials"])
        seeds = tuple(int(seed) for seed in options["seeds"].strip("[]").split(","))
    except ValueError as error:
        raise ConfigurationError(f"n_trials and seeds are whole numbers: {error}") from error
    n_trials = whole()("n_trials", int(number) if number.is_integer() else number)
    require(len(set(seeds)) == len(seeds), f"seeds={options['seeds']} has a seed twice: give distinct seeds")
    for seed in seeds:
        check_seed(seed)
    sampler, prune, objective = (check(key, options[key]) for key, check in _CHECKS.items())
    file = options["search"] or composition.choices["algo"]
    name = options["name"] or f"{composition.choices['experiment']}-{Path(file).stem}".replace("/", "-")
    below = Path(composition.config.output) / "tune"
    folder = below / name
    inside = below in folder.parents and ".." not in Path(name).parts
    require(inside, f"name={name} is no directory below {below}: give a name such as name=wide")
    check_writable(folder, "name")
    space = read_space(file)
    _check_ends(overrides, space)
    rest = (tuple(overrides), space, composition, folder)
    return Search(n_trials, seeds, sampler, prune == "true", objective, *rest)


def read_space(name: str) -> dict[str, BaseDistribution]:
    """Return the search space ``conf/search/<name>.yaml``, or that of the file ``name``.

    Raises:
        ConfigurationError: There is none, or it holds something else, in one sentence.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONF / "search" / f"{name}.yaml"
    known = ", ".join(sorted(file.stem for file in (CONF / "search").glob("*.yaml")))
    require(path.is_file(), f"search={name} does not exist: the options are {known}, or a YAML file")
    try:
        content = read_yaml(path)
    except DamagedError as error:
        raise ConfigurationError(f"search={name}: {error}: write lines such as {_EXAMPLE}") from error
    require(bool(content), f"search={name} names no parameter: write lines such as {_EXAMPLE}")
    return {key: _distribution(key, value) for key, value in content.items()}


def _distribution(key: str, value: object) -> BaseDistribution:
    require(
        key not in groups(),
        f"the search space varies {key}, a group, and a tuning file cannot choose among its options: search once for "
        f"each of them, with {key}=... on the command line",
    )
    given = value.items() if isinstance(value, Mapping) else ()
    options = {name: option for name, option in given if option is not None}
    choices, names = options.get("choices"), options.keys()
    if len(options) == 1 and isinstance(choices, list) and choices:
        return CategoricalDistribution([written(one) if isinstance(one, list) else one for one in choices])
    numbers = [options[name] for name in ("low", "high", "step") if name in options]
    numbers_are = all(is_number(number) and -math.inf < number < math.inf for number in numbers)
    known = {"low", "high"} <= names <= {"low", "high", "log", "step"}
    require(
        known and numbers_are and isinstance(options.get("log", False), bool),
        f"the search space says {key}: {value}, and needs choices, or low and high: write {_EXAMPLE}",
    )
    low, step = options["low"], options.get("step", 1)
    whole = isinstance(low, int) and isinstance(options["high"], int)
    require(
        not whole or step == int(step),
        f"the search space of {key} has the step {step}, and needs a whole number: write low: {low}.0 for a "
        "range of fractions",
    )
    try:
        return (IntDistribution if whole else FloatDistribution)(**options)
    except (ValueError, OverflowError) as error:
        wrong = f"the search space says {key}: {value}, which is no range: {error}"
        raise ConfigurationError(wrong) from error


def _ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Return the values at the edge of a range, or its choices: where all these are valid, every value is."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return distribution.low, distribution.high


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Return values by their keys as overrides; optuna keeps a list as the text that stands for it."""
    return [f"{key}={value if isinstance(value, str) else written(value)}" for key, value in values.items()]


def _check_ends(overrides: Sequence[str], space: Mapping[str, BaseDistribution]) -> None:
    """Refuse a parameter whose ends cannot run; all first ends at once and so on, for each check takes time."""
    edges = {key: _ends(distribution) for key, distribution in space.items()}
    try:
        for place in range(max(map(len, edges.values()))):
            chosen = {key: values[min(place, len(values) - 1)] for key, values in edges.items()}
            compose_run([*overrides, *as_overrides(chosen)])
    except ConfigurationError:
        # One by one: that says which it is, and two ends may be refused together that each can run.
        for key, values in edges.items():
            for value in values:
                compose_run([*overrides, *as_overrides({key: value})])


def describe(search: Search) -> str:
    """Return what is about to be searched, in a few lines."""
    cfg, seeds = search.composition.config, ", ".join(map(str, search.seeds))
    what = f"{search.n_trials} trials of {cfg.experiment} with seeds {seeds}"
    lines = [f"{what}, {cfg.total_steps:,} environment steps each, in {search.folder}"]
    for key, distribution in search.space.items():
        joint = ", " if isinstance(distribution, CategoricalDistribution) else " to "
        lines.append(f"  {key}: {joint.join(map(written, _ends(distribution)))}")
    return "\n".join(lines)
