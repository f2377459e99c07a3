"""From overrides to typed values: Hydra's composition, its mistakes answered in one sentence."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import datetime
from functools import cache
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, RangeSweep, Transformer
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mtrl.config.mistakes import (
    check_form,
    check_hydras,
    check_keys,
    check_options,
    first_sentence,
    is_free,
    sentence,
)
from mtrl.config.types import Config, config_of, holds_keys, require
from mtrl.config.values import quoted, walk
from mtrl.errors import ConfigurationError

_PACKAGED = Path(__file__).parents[1] / "conf"
CONF = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[2] / "conf"
"""The configuration files: inside the installed package, or beside it in a checkout."""


@dataclass(frozen=True)
class Composed:
    """One run as Hydra composes it: each value valid by itself, not yet checked across groups."""

    config: Config
    choices: dict[str, str]
    """The option chosen of each group."""
    values: dict[str, Any]
    """The resolved configuration as nested plain values."""
    verbose: bool
    """Whether ``hydra.verbose=true`` asks for the debug log."""
    overrides: tuple[str, ...]
    """The overrides as Hydra reads them."""
    tuned: bool
    """Whether the recipe's tuned values were drawn in; they are for the algorithm's own class."""


class Sweep(NamedTuple):
    """What a sweep is asked to run, and how."""

    members: list[list[str]]
    """The overrides of each, in Hydra's order."""
    launcher: str
    """The option of ``hydra/launcher``."""
    at_once: int
    """How many members the launcher gets at a time."""
    directory: Path
    for_hydra: list[str]
    """The overrides of Hydra's own keys."""


class Defaults(NamedTuple):
    """What a choice of options gives before any key is overridden."""

    choices: dict[str, str]
    values: dict[str, Any]


MOST_MEMBERS = 10_000
"""Members of a sweep: each is composed and checked before the first one starts."""


def as_hydra_reads(override: str) -> str:
    """Return an override with ``++`` before a free key, or with the quotes that Hydra needs around a path."""
    key, equals, value = override.partition("=")
    if is_free(key):
        return f"++{override}"
    is_path = equals and key.lstrip("+") in ("output", "transfer.source", "hydra.sweep.dir")
    return f"{key}={_path(value)}" if is_path else override


def _path(value: str) -> str:
    """Return a path as Hydra must be told it: in quotes, unless it is written in Hydra's grammar already.

    Commas are between the values of a sweep, unless there is a file of that name, or an equals sign in it, as in the
    directories of runs.
    """
    if os.path.exists(value):
        return quoted(value)
    parts, parser = value.split(","), OverridesParser.create()
    if len(parts) > 1 and (not re.search(r"[='\"(\[{\\]", value) or all(map(os.path.exists, parts))):
        return ",".join(_path(part.strip()) for part in parts)
    try:
        (read,) = parser.parse_overrides([f"output={value}"])
    except HydraException:
        return (
            value
            if value.startswith(tuple(f"{name}(" for name in parser.functions.functions))
            else quoted(value)
        )
    return value if read.is_sweep_override() or isinstance(read.value(), str | None) else quoted(value)


def groups() -> dict[str, list[str]]:
    """Return the options of each group, read off the files; other files draw in those that begin with an underscore."""
    found: dict[str, list[str]] = {}
    for file in sorted(CONF.glob("*/**/*.yaml")):
        group, *option = file.relative_to(CONF).with_suffix("").parts
        if group not in ("tuning", "hydra", "search") and not file.name.startswith("_"):
            found.setdefault(group, []).append("/".join(option))
    return {group: sorted(options) for group, options in found.items()}


def compose(overrides: Sequence[str]) -> Composed:
    """Compose one run from overrides; ConfigurationError names the mistake and the fix in one sentence."""
    overrides = [as_hydra_reads(override) for override in overrides]
    with _hydra():
        parsed, known = _parse(overrides), groups()
        check_form(parsed)
        check_options(parsed, known)
        check_hydras(parsed, sweep=False)
        chosen = [str(override.input_line) for override in parsed if override.key_or_group in known]
        if len(chosen) < len(parsed):
            check_keys(parsed, known, _keys_of(tuple(chosen)))
        cfg, of_hydra = _compose(overrides)
        choices, given = _choices(of_hydra), OmegaConf.to_container(cfg)
        for group in (field.name for field in fields(Config) if is_dataclass(field.type)):
            require(isinstance(given[group], dict), holds_keys(group))
        usual = defaults_of(algo=choices["algo"]).values["algo"]["cls"]
        tuned = given["algo"]["cls"] == usual or all(each.key_or_group != "algo.cls" for each in parsed)
        if not tuned:
            cfg, _ = _compose([*overrides, "~tuning"])
        cfg.experiment = choices["experiment"]
        if given["task"] is None and "${task}" in (given["env"].get("tasks") or []):
            fix = "name one with task=reach-v3, or a set with env.tasks=[...]"
            raise ConfigurationError(f"task=null leaves experiment={cfg.experiment} without a task: {fix}")
        try:
            resolved = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        except (OmegaConfBaseException, RecursionError) as error:
            raise ConfigurationError(sentence(error)) from error
    typed = config_of(resolved, choices)
    values = asdict(typed)
    # Their checks make them whole; names of directories have the numbers of their types, as 120.0.
    ends, still = values["curriculum"]["steps"], values["transfer"]["freeze_steps"]
    values["curriculum"]["steps"] = [end if end is None else float(end) for end in ends]
    values["transfer"]["freeze_steps"] = {part: float(steps) for part, steps in still.items()}
    return Composed(typed, choices, values, bool(of_hydra.verbose), tuple(overrides), tuned)


def compose_sweep(overrides: Sequence[str]) -> Sweep:
    """Return a sweep, whose members are still to be composed; one of nothing, or of too many, is refused."""
    with _hydra():
        known, parsed = groups(), _parse([as_hydra_reads(override) for override in overrides])
        own = [override for override in parsed if not override.is_hydra_override()]
        for_hydra = [override for override in parsed if override.is_hydra_override()]
        # Checked here, for Hydra would refuse an unknown launcher in many lines.
        shared = [each for each in own if not each.is_sweep_override() and each.key_or_group in known]
        check_options([*for_hydra, *shared], known)
        check_hydras(for_hydra, sweep=True)
        lines = [str(override.input_line) for override in for_hydra]
        try:
            _, cfg = _compose([*lines, *(str(override.input_line) for override in shared)])
            size, params = cfg.sweeper.get("max_batch_size"), (cfg.sweeper.get("params") or {}).items()
            n_jobs, directory = cfg.launcher.get("n_jobs"), Path(str(cfg.sweep.dir))
        except (AssertionError, AttributeError, TypeError, OmegaConfBaseException) as error:
            wrong = f"{' '.join(lines)} is nothing that Hydra can use ({first_sentence(error)}): leave it out"
            raise ConfigurationError(wrong) from error
        require(size is None or size > 0, f"hydra.sweeper.max_batch_size={size} must be at least 1")
        require(n_jobs != 0, "hydra.launcher.n_jobs=0 runs nothing: give the number of members at a time")
        launcher, sweeper = (str(cfg.runtime.choices[f"hydra/{group}"]) for group in ("launcher", "sweeper"))
        other = f"hydra/sweeper={sweeper} is not for this command, which runs every combination: leave it out"
        require(sweeper == "basic", other)
        # A recipe may name values to vary, too.
        own = [*_parse([as_hydra_reads(f"{key}={value}") for key, value in params]), *own]
        values = {override.get_key_element(): _values(override, known) for override in own}
        number = prod(map(len, values.values()))
        many = f"this sweep has {number:,} members, and can have {MOST_MEMBERS:,}: give fewer values"
        require(number <= MOST_MEMBERS, many)
        members = [list(member) for member in product(*values.values())]
        return Sweep(members, launcher, size or number, directory, lines)


def _values(override: Override, known: Mapping[str, list[str]]) -> list[str]:
    """Return the overrides that one of a sweep stands for; itself if it gives one value."""
    key, line, given = override.get_key_element(), override.input_line, override.value()
    if not override.is_sweep_override():
        text = override.get_value_element_as_str()
        if isinstance(given, str) and "${now:" in given:
            # The clock is looked at once, so that all members find the same there.
            moment = datetime.now()
            text = quoted(re.sub(r"\$\{now:([^}]*)\}", lambda found: moment.strftime(found[1]), given))
        return [f"{key}={text}"]
    try:
        if isinstance(given, Glob):
            # Hydra's own list has the schemas, too. A star stands for no slash.
            options, depths = (
                known.get(override.key_or_group, []),
                {each.count("/") for each in given.include},
            )
            values = [option for option in given.filter(options) if option.count("/") in depths]
        else:
            many = f"{line} gives more than the {MOST_MEMBERS:,} members that a sweep can have: give fewer values"
            numbers = given.range() if isinstance(given, RangeSweep) else ()
            require(len(list(islice(numbers, MOST_MEMBERS + 1))) <= MOST_MEMBERS, many)
            values = list(override.sweep_iterator(_value))
    except (HydraException, ArithmeticError, TypeError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        fix = "write 1,2,3 or choice(...), range(...) or glob(...)"
        raise ConfigurationError(f"{line} is no list of values ({first_sentence(error)}): {fix}") from error
    require(bool(values), f"{line} gives no value, and a sweep of nothing runs nothing: give one or more")
    return [f"{key}={value}" for value in values]


def _value(given: Any) -> str:
    """Return a value of a sweep as an override writes it; Hydra leaves out quotes that it needs."""
    text = Transformer.str(given)
    return quoted(given) if isinstance(given, str) and ("\\" in text or not text.isascii()) else text


# The members of a sweep ask for the same defaults again and again.
@cache
def defaults_of(*, tuned: bool = True, **chosen: str) -> Defaults:
    """Return what the options ``chosen`` (group=option) compose to; without a recipe unless one is chosen.

    Nothing is checked, for a base without a recipe has no tasks. A recipe's tuned values are left out on demand.
    """
    words = [f"{group}={option}" for group, option in chosen.items()]
    words += [] if tuned else ["~tuning"]
    with _hydra():
        cfg, of_hydra = _compose(words, "config" if "experiment" in chosen else "base")
        return Defaults(_choices(of_hydra), OmegaConf.to_container(cfg, resolve=True))


def _choices(of_hydra: DictConfig) -> dict[str, str]:
    return {group: str(option) for group, option in of_hydra.runtime.choices.items() if group in groups()}


@contextmanager
def _hydra() -> Iterator[None]:
    try:
        os.getcwd()
    except OSError as error:
        gone = f"the working directory cannot be found ({error.strerror}): change to one that exists"
        raise ConfigurationError(gone) from error
    # The program that calls this may be one of Hydra's itself.
    theirs, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra, VersionBase.instance().version_base = theirs, base


def _parse(overrides: Sequence[str]) -> list[Override]:
    parser, parsed = OverridesParser.create(GlobalHydra.instance().config_loader()), []
    for override in overrides:
        try:
            parsed += parser.parse_overrides([override])
        except (HydraException, ValueError, RecursionError) as error:
            fix = "write overrides as key=value, and other text in quotes, as key='\"a, b\"'"
            raise ConfigurationError(f"{override} cannot be read: {fix}") from error
    return parsed


@cache
def _keys_of(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Return every key there is with these options of groups, in the order of their types."""
    return tuple(key for key, _ in walk(OmegaConf.to_container(_compose(chosen)[0])))


def _compose(overrides: Sequence[str], name: str = "config") -> tuple[DictConfig, DictConfig]:
    """Return a configuration, and what of it is Hydra's own."""
    try:
        cfg = hydra.compose(name, overrides=list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, RecursionError) as error:
        raise ConfigurationError(sentence(error)) from error
    with open_dict(cfg):
        return cfg, cfg.pop("hydra")
