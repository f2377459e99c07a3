"""From overrides to a checked ``Config``: Hydra's composition with mistakes said in one sentence."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from mtrl import config
from mtrl.config import Config, ConfigurationError
from mtrl.tasks import closest

_PACKAGED = Path(__file__).parent / "conf"
CONF = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "conf"
"""The configuration files: inside the installed package, or beside it in a checkout."""

_FREE_KEYS = ("algo.kwargs.", "curriculum.difficulty")
_SYNONYMS = {
    "algorithm": "algo",
    "environment": "env",
    "agent": "algo",
    "eval": "evaluation",
    "steps": "total_steps",
}


@dataclass(frozen=True, slots=True)
class Composition:
    """One composed and checked run."""

    config: Config
    choices: dict[str, str]
    """The option chosen of each group."""
    values: dict[str, Any]
    """The resolved configuration as nested plain values."""
    verbose: bool
    """Whether ``hydra.verbose=true`` asks for the debug log."""
    overrides: tuple[str, ...] = ()
    """What it was composed from."""
    said: tuple[str, ...] = ()
    """The overrides in a person's own words; fewer where the project added some for a run of its own."""


@cache
def register_schema() -> None:
    """Give Hydra the types; the files name them as their first default."""
    store = ConfigStore.instance()
    schema = OmegaConf.structured(Config)
    for field in fields(Config):
        # OmegaConf 2.3 cannot expand a missing dataclass with union fields while it merges a file into it.
        if is_dataclass(field.type):
            schema[field.name] = OmegaConf.structured(field.type)
    store.store(name="schema", node=schema)
    for group, schemas in _SCHEMAS.items():
        for name, node in schemas.items():
            store.store(group=group, name=f"{name}_schema", node=node)


_SCHEMAS: dict[str, dict[str, type]] = {
    "algo": {"sac": config.SACConfig, "td3": config.TD3Config, "ddpg": config.DDPGConfig},
    "variant": {
        "plain": config.PlainConfig,
        "shared": config.VariantConfig,
        "multihead": config.MultiheadConfig,
    },
    "curriculum": {"staged": config.CurriculumConfig, "adaptive": config.AdaptiveCurriculumConfig},
}


def with_free_keys(overrides: Sequence[str]) -> list[str]:
    """Return ``overrides`` as Hydra reads them: ``++`` before free keys, quotes around awkward paths."""
    return [f"++{text}" if text.startswith(_FREE_KEYS) else _quoted(text) for text in overrides]


def _quoted(text: str) -> str:
    key, _, value = text.partition("=")
    # The name of a run directory holds = and commas.
    if key == "transfer.source" and value[:1] not in ("'", '"') and ("=" in value or Path(value).exists()):
        return f'{key}="{value}"'
    return text


_NOT_GROUPS = ("tuning", "hydra", "search")


def groups() -> dict[str, list[str]]:
    """Return the options of each group, read off the files.

    ``tuning`` is drawn in by itself and a file whose name begins with an underscore by others: neither is offered.
    """
    found: dict[str, list[str]] = {}
    for folder in sorted(path for path in CONF.iterdir() if path.is_dir() and path.name not in _NOT_GROUPS):
        found[folder.name] = sorted(
            str(f.relative_to(folder).with_suffix(""))
            for f in folder.rglob("*.yaml")
            if not f.name.startswith("_")
        )
    return found


def compose_run(overrides: Sequence[str]) -> Composition:
    """Compose one run from overrides such as ``["experiment=mt10", "algo.gamma=0.9"]`` and check it.

    Raises:
        ConfigurationError: In one sentence, what is wrong and how to mend it.
    """
    # Imported late: these checks read the free memory and the file system.
    from mtrl.checks import check

    said, overrides = overrides, with_free_keys(overrides)
    with _hydra():
        parsed = _parse(overrides)
        for override in parsed:
            if override.is_sweep_override():
                raise ConfigurationError(
                    f"{override.input_line} gives several values: add -m to run each of them"
                )
        _check_keys(parsed)
        cfg = _compose(overrides)
        choices = _choices(cfg)
        verbose = bool(cfg.hydra.verbose)
    typed = _instantiate(cfg, choices["experiment"])
    check(typed)
    values = OmegaConf.to_container(OmegaConf.structured(typed), resolve=True)
    return Composition(typed, choices, values, verbose, tuple(overrides), tuple(said))


def members(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each member of a sweep, in Hydra's order.

    Raises:
        ConfigurationError: An override that Hydra cannot read, or a sweep over an interval.
    """
    with _hydra():
        parsed = _parse(with_free_keys(overrides))
        own = [override for override in parsed if not override.is_hydra_override()]
        # Hydra's own words are checked here too, or a launcher that does not exist would be its to refuse.
        _compose([o.input_line for o in parsed if o.is_hydra_override() and o.input_line is not None])
        try:
            return [list(member) for batch in BasicSweeper.split_arguments(own, None) for member in batch]
        except HydraException as error:
            raise ConfigurationError(_first_sentence(error)) from error


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a choice of options gives before any key is overridden."""

    choices: dict[str, str]
    values: dict[str, Any]


def defaults_of(**chosen: str) -> Defaults:
    """Return what the options ``chosen`` (group=option) compose to; without a recipe unless one is chosen.

    Nothing is checked, for a base without a recipe has no tasks.
    """
    return _defaults(tuple(f"{group}={option}" for group, option in sorted(chosen.items())))


# The members of a sweep ask for the same defaults again and again.
@cache
def _defaults(chosen: tuple[str, ...]) -> Defaults:
    recipe = any(choice.startswith("experiment=") for choice in chosen)
    with _hydra():
        cfg = _compose(chosen, "config" if recipe else "base")
    return Defaults(_choices(cfg), OmegaConf.to_container(_without_hydra(cfg), resolve=True))


def _without_hydra(cfg: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])


def _choices(cfg: DictConfig) -> dict[str, str]:
    offered = set(groups())
    return {group: str(option) for group, option in cfg.hydra.runtime.choices.items() if group in offered}


@contextmanager
def _hydra() -> Iterator[None]:
    register_schema()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        yield


def _parse(overrides: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigurationError(f"{_first_sentence(error)}: write overrides as key=value") from error


def _check_keys(overrides: Sequence[Override]) -> None:
    """Refuse a group, an option or a key that does not exist, with the nearest name."""
    known = groups()
    chosen = [o for o in overrides if o.key_or_group in known]
    for override in chosen:
        # Hydra also lists the schemas as options; the files are what a person may choose.
        option, options = override.value(), known[override.key_or_group]
        if override.is_delete() or override.is_sweep_override():
            continue
        if option not in options:
            near = closest(str(option), options)
            hint = f" (did you mean {near}?)" if near else ""
            raise ConfigurationError(
                f"{override.key_or_group}={option} does not exist{hint}: the options are {', '.join(options)}"
            )
    keys = _keys_of(tuple(o.input_line for o in chosen if o.input_line is not None))
    for override in overrides:
        key = override.key_or_group
        if key in known or override.is_hydra_override() or key.startswith(_FREE_KEYS):
            continue
        if key not in keys:
            raise ConfigurationError(_unknown_key(key, keys, known))


@cache
def _keys_of(chosen: tuple[str, ...]) -> frozenset[str]:
    """Return every key there is with these options of groups."""
    return frozenset(_flat_keys(OmegaConf.to_container(_compose(chosen))))


def _unknown_key(key: str, keys: frozenset[str], known: dict[str, list[str]]) -> str:
    head, _, rest = key.partition(".")
    for option, schema in _SCHEMAS.get(head, {}).items():
        if rest in {field.name for field in fields(schema)}:
            return f"there is no key {key!r} in this configuration: it belongs to {head}={option}"
    candidates = sorted(keys) + sorted(known)
    translated = _SYNONYMS.get(head, head) + (f".{rest}" if rest else "")
    near = translated if translated in candidates else closest(translated, candidates)
    if near is None and rest:
        same_leaf = [candidate for candidate in candidates if candidate.split(".")[-1] == rest]
        near = same_leaf[0] if same_leaf else None
    if near is None:
        leaf = [candidate for candidate in candidates if candidate.split(".")[-1] == key]
        near = leaf[0] if leaf else None
    hint = f"did you mean {near}?" if near else "python -m mtrl --cfg job shows every key"
    return f"there is no key {key!r} in this configuration: {hint}"


def _flat_keys(values: object, prefix: str = "") -> set[str]:
    if not isinstance(values, dict):
        return set()
    keys = set()
    for name, value in values.items():
        if not prefix and name == "hydra":
            continue
        keys.add(f"{prefix}{name}")
        keys |= _flat_keys(value, f"{prefix}{name}.")
    return keys


def _compose(overrides: Sequence[str], name: str = "config") -> DictConfig:
    try:
        return compose(name, overrides=list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(_sentence(error)) from error


def _instantiate(cfg: DictConfig, experiment: str) -> Config:
    plain = _without_hydra(cfg)
    OmegaConf.set_struct(plain, False)
    try:
        plain.experiment = experiment
        return Config(**OmegaConf.to_object(plain))
    except MissingMandatoryValue as error:
        key = error.full_key or "a key"
        raise ConfigurationError(f"{key} has no value: set it with {key}=...") from error
    except OmegaConfBaseException as error:
        raise ConfigurationError(_sentence(error)) from error


def _sentence(error: BaseException) -> str:
    """Return OmegaConf's complaint as ``key: what is wrong``, whichever layer wrapped it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            what = str(cause.msg or cause).splitlines()[0]
            what = what.replace("incompatible with type hint 'Union[int, float]'", "no number")
            return f"{cause.full_key} has the wrong type: {what}"
        cause = cause.__cause__
    return _first_sentence(error)


def _first_sentence(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
