"""``python -m mtrl.benchmark SUBCOMMAND``: measure speeds in turns; ``--json`` prints one object."""

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Sequence

import mtrl.benchmark
from mtrl.hardware import wait_without_spinning

_HELPERS = {"__main__", "learners", "pairing"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; each is a module of this package with ``add_arguments``, ``run`` and ``show``."""
    wait_without_spinning()
    parser = argparse.ArgumentParser(prog="python -m mtrl.benchmark", description=__doc__)
    subcommands = parser.add_subparsers(dest="subcommand", required=True)
    names = [module.name for module in pkgutil.iter_modules(mtrl.benchmark.__path__)]
    for name in sorted(set(names) - _HELPERS):
        module = importlib.import_module(f"mtrl.benchmark.{name}")
        description = (module.__doc__ or "").strip()
        subparser = subcommands.add_parser(name, help=description.split("\n")[0], description=description)
        subparser.add_argument("--json", action="store_true", help="print one JSON object")
        module.add_arguments(subparser)
        subparser.set_defaults(module=module)
    chosen = parser.parse_args(arguments)
    result = chosen.module.run(chosen)
    if chosen.json:
        print(json.dumps(result))
    else:
        chosen.module.show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
