"""Whether overrides name what there is: groups, options, keys. A mistake is answered with the nearest name."""

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from mtrl.config.types import OPTIONS, Config, require
from mtrl.errors import ConfigurationError
from mtrl.tasks import closest


def sentence(error: BaseException) -> str:
    """Return a complaint as ``key: what is wrong; what to give``, whichever layer wrapped it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            key, kind = cause.full_key, _type_of(cause.full_key)
            if isinstance(cause, ConfigKeyError):
                # A file sets a key which the option chosen on the command line does not have.
                file, owners = re.search(r"In '([^']+)'", str(error)), _owners(key)
                where = f"conf/{file[1]}.yaml sets {key}" if file else f"{key} is set"
                if not owners:
                    return f"{where}, which does not exist: take it out"
                fix = f"choose {owners[0]}, or another experiment"
                return f"{where}, which only {' and '.join(owners)} has: {fix}"
            if is_dataclass(kind):
                first = f"{key}.{fields(kind)[0].name}=..."
                return f"{key} has the wrong type: it holds keys, which are set one by one, as {first}"
            what = str(cause.msg or cause).splitlines()[0].rstrip(".")
            what = what.replace("incompatible with type hint 'Union[int, float]'", "no number")
            return f"{key} has the wrong type: {what}; give {_in_words(kind)}"
        cause = cause.__cause__ or cause.__context__
    return first_sentence(error)


def first_sentence(error: BaseException) -> str:
    """Return the first line of a message, without its full stop."""
    return str(error).strip().splitlines()[0].rstrip(".")


def _owners(key: str) -> list[str]:
    """Return the options that have a key, as ``group=option``."""
    group, _, name = key.partition(".")
    options = OPTIONS.get(group, {}).items()
    return [f"{group}={option}" for option, kind in options if name in kind.__dataclass_fields__]


def _type_of(key: str) -> Any:
    """Return the type of a key of the configuration, or of an entry of a list; None for one of Hydra's."""
    path, entry = re.subn(r"\[\d+\]", "", key)
    group, _, name = path.partition(".")
    kind: Any = {field.name: field.type for field in fields(Config)}.get(group)
    if name and is_dataclass(kind):
        owners = [kind, *OPTIONS.get(group, {}).values()]
        kind = {field.name: field.type for owner in owners for field in fields(owner)}.get(name)
    return get_args(kind)[0] if entry and get_args(kind) else kind


def _in_words(kind: Any) -> str:
    """Return in words what a key of a type takes."""
    if isinstance(kind, types.UnionType):
        parts = [part for part in get_args(kind) if not (part is int and float in get_args(kind))]
        return " or ".join(map(_in_words, parts))
    if kind is types.NoneType:
        return "null"
    if get_origin(kind) is list:
        return "a list such as [a,b]"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
    return words.get(kind, "another value")


_SYNONYMS = {
    "algorithm": "algo",
    "environment": "env",
    "agent": "algo",
    "eval": "evaluation",
    "steps": "total_steps",
    "total_timesteps": "total_steps",
    "n_envs": "env.copies_per_task",
    "lr": "algo.learning_rate",
}
"""Words that stable-baselines3 and its users have for keys, by the keys' names here."""

_PLACES = {
    "hydra.run": "output=...",
    "hydra.run.dir": "output=...",
    "hydra.sweep.subdir": "output=... or hydra.sweep.dir=...",
    "hydra.output_subdir": "output=...",
    "hydra.job.chdir": "output=...",
}
"""Hydra's keys for where a run is written, which would change nothing here, and what does."""


def is_free(key: str) -> bool:
    """Return whether what ``key`` holds has names that only the person who gives it knows."""
    return key == "curriculum.difficulty" or key.startswith(("algo.kwargs.", "curriculum.difficulty."))


def check_form(overrides: Sequence[Override]) -> None:
    """Refuse overrides of a form, or together with others, that cannot be meant."""
    given = {}
    for override in overrides:
        key, line = override.key_or_group, override.input_line
        if key in _PLACES and not override.is_delete() and override.value() is not False:
            why = "does not move a run, whose directory follows from what it learns"
            raise ConfigurationError(f"{line} {why}: use {_PLACES[key]}")
        if override.is_hydra_override():
            continue
        deletes = f"{line} deletes, which nothing here allows: leave it out, or set {key}=..."
        require(not override.is_delete(), deletes)
        package = f"{line} names a package, which no group here has: write it without @"
        require(override.package is None, package)
        require(not override.is_sweep_override(), f"{line} gives several values: add -m to run each of them")
        if key in ("phase", "total_steps") and override.value() is not None:
            given[key] = line
    lines = " and ".join(given[key] for key in sorted(given))
    require(len(given) < 2, f"{lines} both say how long to train: leave one of them out")


def check_options(overrides: Sequence[Override], known: Mapping[str, list[str]]) -> None:
    """Refuse an option that its group, one of those ``known`` or of Hydra's own, does not have."""
    of_hydra = GlobalHydra.instance().config_loader().get_group_options
    for override in overrides:
        group = override.key_or_group
        is_hydras = group.startswith("hydra/")
        if override.is_delete() or override.is_sweep_override() or not (group in known or is_hydras):
            continue
        # Of the groups known, Hydra would list the schemas too, which nobody may choose.
        options = of_hydra(group, ObjectType.CONFIG) if is_hydras else known[group]
        if not options:
            own = [f"hydra/{name}" for name in of_hydra("hydra", ObjectType.GROUP)]
            near = closest(group, own)
            hint = f"did you mean {near}?" if near else f"Hydra has {', '.join(own)}"
            raise ConfigurationError(f"there is no group {group!r}: {hint}")
        option = override.value()
        near = closest(str(option), options)
        hint = f" (did you mean {near}?)" if near else ""
        refusal = f"{group}={option} does not exist{hint}: the options are {', '.join(options)}"
        require(option in options, refusal)


def check_keys(overrides: Sequence[Override], known: Mapping[str, list[str]], keys: Sequence[str]) -> None:
    """Refuse a key that is not among ``keys``, those of the options chosen, or that the choice of an option decides."""
    names = {f"{group}.name" for group in known} & set(keys)
    candidates = list(dict.fromkeys([*(key for key in keys if key not in names), *known]))
    for override in overrides:
        key = override.key_or_group
        if key in known or override.is_hydra_override() or is_free(key):
            continue
        if key in names:
            group = key.partition(".")[0]
            raise ConfigurationError(
                f"{key} is the name of the option chosen: choose another with {group}=..."
            )
        if key not in keys:
            owners, near = _owners(key), _nearest(key, candidates)
            either = " or ".join(filter(None, (", ".join(near[:-1]), *near[-1:])))
            hint = f"did you mean {either}?" if near else "python -m mtrl --cfg job shows every key"
            hint = f"it belongs to {owners[0]}" if owners else hint
            raise ConfigurationError(f"there is no key {key!r} in this configuration: {hint}")
        twice = f"{override.input_line} adds a key that is there: write it without +"
        require(not override.is_add() or override.is_force_add(), twice)


def _nearest(key: str, candidates: Sequence[str]) -> list[str]:
    """Return the candidates that ``key`` may be a slip for: all of one last word, where only that is known."""
    head, _, rest = key.partition(".")
    leaf = key.rpartition(".")[2]
    translated = _SYNONYMS.get(head, head) + (f".{rest}" if rest else "")
    for word in (translated, _SYNONYMS.get(leaf)):
        if word in candidates:
            return [word]
    leaves: dict[str, list[str]] = {}
    for candidate in candidates:
        leaves.setdefault(candidate.rpartition(".")[2], []).append(candidate)
    if leaf in leaves:
        return leaves[leaf]
    near = closest(translated, candidates) if rest else None
    return [near] if near else leaves.get(closest(leaf, list(leaves)) or "", [])
