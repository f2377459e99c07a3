"""Nested values as flat keys, and values as an override on the command line writes them. Imports nothing."""

import re
from collections.abc import Iterable, Iterator
from typing import Any


def walk(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dotted key of nested tables with its value, a table before what it holds; lists stay values."""
    for name, value in values.items():
        yield f"{prefix}{name}", value
        if isinstance(value, dict):
            yield from walk(value, f"{prefix}{name}.")


def flatten(values: dict[str, Any]) -> dict[str, Any]:
    """Return nested tables as one level of dotted keys; lists and empty tables stay values."""
    return {key: value for key, value in walk(values) if not isinstance(value, dict) or not value}


def key_of(override: str) -> str:
    """Return the key of an override, ``algo.gamma`` of ``++algo.gamma=0.9``."""
    return override.partition("=")[0].lstrip("+~")


def last_of_each(overrides: Iterable[str]) -> list[str]:
    """Return overrides without those of which a later one sets the same key."""
    return list({key_of(override): override for override in overrides}.values())


_PLAIN = re.compile(
    r"(?!([+-]?([\d._]+(e[+-]?[\d_]+)?|inf|nan)|null|true|false)$)[\w./:+@%?|*-]+", re.I | re.A
)
"""Text that Hydra reads as text without quotes: none of its signs, and no number, null, true or false."""


def written(value: Any) -> str:
    """Return a value as an override writes it, so that Hydra reads the same value back: ``[256,256]``, ``"a=b"``.

    Only the keys of a table cannot be in quotes there: they must be plain words, as the names of tasks are.
    """
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{written(each)}' for key, each in value.items())}}}"
    if not isinstance(value, str):
        return "null" if value is None else str(value).lower()
    # OmegaConf would look up what is in ${...}.
    return value if _PLAIN.fullmatch(value) else quoted(re.sub(r"(\\*)\$\{", r"\1\1\\${", value))


def read(text: str) -> Any:
    """Return the value that text of an override stands for, the text itself where Hydra cannot read it as one."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        (override,) = OverridesParser.create().parse_overrides([f"key={text}"])
    except (HydraException, ValueError, RecursionError):
        return text
    return text if override.is_sweep_override() else override.value()


def quoted(text: str) -> str:
    """Return text in quotes, in which ``${...}`` is still looked up."""
    return '"' + re.sub(r'(\\*)("|\Z)', lambda found: 2 * found[1] + found[2].replace('"', '\\"'), text) + '"'
