"""``python -m mtrl.benchmark SUBCOMMAND``: measure speeds in turns; ``--json`` prints one object."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mtrl.hardware import wait_without_spinning

SUBCOMMANDS = ("env", "learner", "start", "train")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; each is a module of this package with ``add_arguments`` and ``run``."""
    wait_without_spinning()
    parser = argparse.ArgumentParser(prog="python -m mtrl.benchmark", description=__doc__)
    subcommands = parser.add_subparsers(dest="subcommand", required=True)
    for name in SUBCOMMANDS:
        module = importlib.import_module(f"mtrl.benchmark.{name}")
        description = module.__doc__ or ""
        subparser = subcommands.add_parser(name, help=description.split("\n")[0], description=description)
        subparser.add_argument("--json", action="store_true", help="print one JSON object")
        module.add_arguments(subparser)
        subparser.set_defaults(module=module)
    chosen = parser.parse_args(arguments)
    before = os.getloadavg()[0]
    result = chosen.module.run(chosen) | {"cores": os.cpu_count()}
    result["load_average"] = [before, os.getloadavg()[0]]
    if chosen.json:
        print(json.dumps(result))
    else:
        _show(result)
    return 0


def _show(result: Mapping[str, Any]) -> None:
    """Print a line for each value, a table for values by name, and nothing of single rounds."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    for key, value in result.items():
        if not isinstance(value, dict):
            console.print(escape(f"{key}: {_text(value)}"), soft_wrap=True)
            continue
        rows = value if any(isinstance(row, dict) for row in value.values()) else {"": value}
        columns = dict.fromkeys(
            name for row in rows.values() for name, cell in row.items() if not isinstance(cell, list | dict)
        )
        if columns:
            table = Table(key, *map(escape, columns))
            for name, row in rows.items():
                table.add_row(escape(name), *(_text(row.get(column, "")) for column in columns))
            console.print(table)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return " ".join(map(_text, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.exit(main())
