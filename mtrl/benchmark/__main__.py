"""``python -m mtrl.benchmark SUBCOMMAND``: measure speeds in turns; ``--json`` prints one object."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence

from mtrl.hardware import wait_without_spinning

SUBCOMMANDS = ("env", "learner", "start", "train")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; each is a module of this package with ``add_arguments``, ``run`` and ``show``."""
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
    result["load_average"] = [before, after] = [before, os.getloadavg()[0]]
    if chosen.json:
        print(json.dumps(result))
    else:
        chosen.module.show(result)
        print(f"{result['cores']} cores; load average {before:.1f} before and {after:.1f} after")
    return 0


if __name__ == "__main__":
    sys.exit(main())
