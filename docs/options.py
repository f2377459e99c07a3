"""Write docs/options.md, the table of every key: ``python docs/options.py``."""

import ast
import inspect
import itertools
import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from mtrl.config import types
from mtrl.config.compose import defaults_of, groups
from mtrl.config.values import walk

PAGE = Path(__file__).with_suffix(".md")
INTRODUCTION = """\
# Every key

Made by `python docs/options.py`; a test holds it to the configuration. The value is the one before a recipe
changes it; a key that belongs to some options of a group names them.
"""


def table() -> str:
    """Return the page: the meanings are the docstrings under the fields, the values those of ``conf/``."""
    values, rows = known_values(), {name: text for name, text in meanings(types.Config).items() if text}
    for group in fields(types.Config):
        options = types.OPTIONS.get(group.name, {"": group.type})
        for kind in options.values():
            for name, text in meanings(kind).items():
                owners = [option for option, other in options.items() if name in meanings(other)]
                where = f" (`{group.name}={', '.join(owners)}`)" if len(owners) < len(options) else ""
                rows.setdefault(f"{group.name}.{name}", text + where)
    lines = [f"| `{key}` | {shown(values.get(key))} | {text} |" for key, text in rows.items()]
    return "\n".join([INTRODUCTION, "| key | value | meaning |", "|---|---|---|", *lines, ""])


@cache
def meanings(kind: type) -> dict[str, str]:
    """Return the docstring below each field of a class and of those before it; empty where there is none."""
    found: dict[str, str] = {}
    for base in reversed(getattr(kind, "__mro__", ())):
        body = ast.parse(inspect.getsource(base)).body[0].body if issubclass(base, types.Group) else []
        for statement, after in itertools.pairwise([*body, None]):
            if isinstance(statement, ast.AnnAssign) and statement.target.id in base.__dataclass_fields__:
                found[statement.target.id] = (
                    " ".join(after.value.value.split()) if isinstance(after, ast.Expr) else ""
                )
    return {field.name: found[field.name] for field in fields(kind)} if found else {}


def known_values() -> dict[str, Any]:
    """Return the value of every key, under the first options of each group that have it."""
    values: dict[str, Any] = {}
    for group in types.OPTIONS:
        for option in groups()[group]:
            values = dict(walk(defaults_of(**{group: option}).values)) | values
    return values | dict(walk(defaults_of().values))


def shown(value: Any) -> str:
    """Return a value as YAML has it, a count such as 1e6 as the whole number that it becomes; none as nothing."""
    if isinstance(value, str):
        return "" if value == "???" else f"`{value}`"
    whole = int(value) if isinstance(value, float) and value.is_integer() and value > 1 else value
    return f"`{json.dumps(whole)}`"


if __name__ == "__main__":
    PAGE.write_text(table())
