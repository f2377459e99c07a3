"""``python -m mtrl.benchmark SUBCOMMAND``: measure speeds in turns; ``--json`` prints one object."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtrl.hardware import wait_without_spinning
from mtrl.streams import run_command

SUBCOMMANDS = {
    "env": "environment steps per second: physics alone, native, stock",
    "learner": "updates per second: our SAC against stable-baselines3's, critics per task against shared ones",
    "start": "seconds from the command to the first environment step",
    "train": "environment steps per second of a whole run, against stable-baselines3's SAC",
}
"""Each is a module of this package with ``add_arguments`` and ``run``, imported when it is asked for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand."""
    wait_without_spinning()
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m mtrl.benchmark", description=__doc__)
    subcommands = parser.add_subparsers(dest="subcommand", required=True)
    for name, line in SUBCOMMANDS.items():
        subparser = subcommands.add_parser(name, help=line)
        if name in words[:1]:
            module = importlib.import_module(f"mtrl.benchmark.{name}")
            subparser.description = module.__doc__
            subparser.add_argument("--json", action="store_true", help="print one JSON object")
            module.add_arguments(subparser)
    chosen = parser.parse_args(words)
    before = os.getloadavg()[0]
    result = module.run(chosen) | {"cores": os.cpu_count(), "load_average": [before, os.getloadavg()[0]]}
    if chosen.json:
        print(json.dumps(result))
    else:
        _show(result)
    return 0


def _show(result: Mapping[str, Any]) -> None:
    """Print a line for each value, a table for values by name, and nothing of single rounds."""
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
    run_command(main)
