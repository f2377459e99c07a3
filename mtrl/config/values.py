"""Nested values as flat keys, and values as an override on the command line writes them. Imports nothing."""

import json
import re
from collections.abc import Iterator
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


def written(value: Any) -> str:
    """Return a value as an override writes it: ``[256,256]``, ``true``, ``null``, text in quotes if it needs them."""
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"))
    if re.fullmatch(r"[\w./:+@%?|*-]+", value):
        return value
    return '"' + value.replace('"', r"\"") + '"'
