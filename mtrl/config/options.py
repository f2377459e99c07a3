"""Every key of the configuration as a table: ``python -m mtrl.config.options > docs/options.md``.

The descriptions are the docstrings under the fields of ``mtrl/config/``, the values those of ``conf/``.
"""

import argparse
import ast
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrl import config
from mtrl.config.compose import defaults_of, groups

_INTRODUCTION = """\
# Every key

Made by `python -m mtrl.config.options`; a test holds it to the configuration. The value is the one before a recipe
changes it; a key that belongs to some options of a group names them.
"""
_OWNERS = {
    "SACConfig": "algo=sac",
    "TD3Config": "algo=td3",
    "DDPGConfig": "algo=ddpg, td3",
    "MultiheadConfig": "variant=multihead",
    "AdaptiveCurriculumConfig": "curriculum=adaptive",
}


def table() -> str:
    """Return the Markdown page."""
    lines = [_INTRODUCTION, "| key | value | meaning |", "|---|---|---|"]
    values = _values()
    for key, (meaning, owner) in _described().items():
        where = f" (`{owner}`)" if owner else ""
        lines.append(f"| `{key}` | {_shown(values, key)} | {meaning}{where} |")
    return "\n".join(lines) + "\n"


def _described() -> dict[str, tuple[str, str]]:
    """Return for each key its docstring and the options that alone have it."""
    classes = {
        node.name: node
        for path in sorted(Path(config.__file__).parent.glob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    described: dict[str, tuple[str, str]] = {}
    for name, _, meaning in _fields(classes["Config"]):
        if meaning:
            described[name] = (meaning, "")
    for name, kind, _ in _fields(classes["Config"]):
        for class_name, node in classes.items():
            bases = _ancestors(class_name, classes)
            if kind in bases:
                owner = _OWNERS.get(class_name, "") if class_name != kind else ""
                for field, _, meaning in _fields(node):
                    described.setdefault(f"{name}.{field}", (meaning, owner))
    return described


def _ancestors(name: str, classes: dict[str, ast.ClassDef]) -> set[str]:
    """Return a class and what it derives from, by name."""
    found = {name}
    for base in classes[name].bases:
        if isinstance(base, ast.Name) and base.id in classes:
            found |= _ancestors(base.id, classes)
    return found


def _fields(node: ast.ClassDef) -> list[tuple[str, str, str]]:
    """Return (name, type, docstring) of the fields of a dataclass."""
    fields = []
    for position, statement in enumerate(node.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            after = node.body[position + 1] if position + 1 < len(node.body) else None
            meaning = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                meaning = " ".join(str(after.value.value).split())
            fields.append((statement.target.id, ast.unparse(statement.annotation), meaning))
    return fields


def _values() -> dict[str, Any]:
    """Return the values of every key under some choice of options."""
    values: dict[str, Any] = {}
    known = groups()
    for group in ("algo", "variant", "curriculum"):
        for option in known[group]:
            for key, value in _flat(defaults_of(**{group: option}).values).items():
                values.setdefault(key, value)
    return values | _flat(defaults_of().values)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat[f"{prefix}{key}"] = value
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
    return flat


def _shown(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    if isinstance(value, str):
        return "" if value == "???" else f"`{value}`"
    # A count such as 1e6 is written as the whole number that it becomes.
    whole = int(value) if isinstance(value, float) and value.is_integer() and value > 1 else value
    return f"`{json.dumps(whole)}`"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and return the exit code."""
    description = "Print every key of the configuration, its value and its meaning, as a Markdown table."
    argparse.ArgumentParser(prog="python -m mtrl.config.options", description=description).parse_args(arguments)
    print(table(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
