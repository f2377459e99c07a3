"""What Hydra and OmegaConf complain about, in one sentence with the mend."""

import re
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin

from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from mtrl.config import OPTIONS, Config


def sentence(error: BaseException) -> str:
    """Return a complaint as ``key: what is wrong; what to give``, whichever layer wrapped it."""
    for cause in _causes(error):
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            key = cause.full_key
            if isinstance(cause, ConfigKeyError):
                return _not_of_this_option(error, key)
            kind = _type_of(key)
            if is_dataclass(kind):
                first = f"{key}.{fields(kind)[0].name}=..."
                return f"{key} has the wrong type: it holds keys, which are set one by one, as {first}"
            what = str(cause.msg or cause).splitlines()[0].rstrip(".")
            what = what.replace("incompatible with type hint 'Union[int, float]'", "no number")
            return f"{key} has the wrong type: {what}; give {_in_words(kind)}"
    return first_sentence(error)


def first_sentence(error: BaseException) -> str:
    """Return the first line of a message, without its full stop."""
    return str(error).strip().splitlines()[0].rstrip(".")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _not_of_this_option(error: BaseException, key: str) -> str:
    """Say that a file sets a key which the option chosen on the command line does not have."""
    file = re.search(r"In '([^']+)'", str(error))
    where = f"conf/{file[1]}.yaml sets {key}" if file else f"{key} is set"
    group, _, name = key.partition(".")
    owners = [
        f"{group}={option}"
        for option, kind in OPTIONS.get(group, {}).items()
        if name in {field.name for field in fields(kind)}
    ]
    if not owners:
        return f"{where}, which does not exist: take it out"
    return f"{where}, which only {' and '.join(owners)} has: choose {owners[0]}, or another experiment"


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
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}.get(
        kind, "another value"
    )
