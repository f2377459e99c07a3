"""Write docs/options.md, the table of every key: ``python docs/options.py``."""

import json
from dataclasses import fields, is_dataclass
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
    """Return the page: the meanings are those of the fields, the values those of ``conf/``."""
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


def meanings(kind: type) -> dict[str, str]:
    """Return what each key of a group means; a single value has none."""
    keys = fields(kind) if is_dataclass(kind) else ()
    return {key.name: key.metadata.get("meaning", "") for key in keys}


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
