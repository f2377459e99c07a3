"""Seconds from the command to the first environment step, native and stock, for reach-v3 and MT10.

Each start is the real command in a process of its own, ended after its first vector step: with ``logging.every=1``
that is when metrics.csv gets its first row. Native environments start once with nothing compiled, then with the
compiled code on disk, in turns with stock. What a second start adds is what it takes a process that has loaded
everything else to load the compiled code from disk.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from mtrl.rundir.environment import import_alike

SETS = {"reach-v3": ("experiment=mt1", "task=reach-v3"), "mt10": ("experiment=mt10",)}

_PATIENCE = 300.0
"""Seconds after which a start counts as failed."""
_LOOK_EVERY = 0.01
"""Seconds between two looks at metrics.csv."""
_LOAD = """
import time
from mtrl.env.native import load
from mtrl.env.native.vec_env import NativeVecEnv
from mtrl.tasks import MT10
started = time.perf_counter()
load(MT10, "v2")
print(time.perf_counter() - started)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this subcommand."""
    parser.add_argument("overrides", nargs="*", help="of the runs, as for python -m mtrl")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each kind (5)")
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS), help="what starts (all)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return seconds: for each set ``first`` (nothing compiled), ``native``, ``stock``."""
    result: dict[str, Any] = {"rounds": arguments.rounds, "overrides": arguments.overrides, "sets": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.sets:
            print(f"starting {name} ...", file=sys.stderr, flush=True)
            words = [*SETS[name], *arguments.overrides]
            # A cache of its own: the first start finds it empty, the others find what that one has compiled.
            cache = Path(folder) / name
            row: dict[str, Any] = {"first": _start([*words, "hardware.backend=native"], cache)}
            seconds: dict[str, list[float]] = {"native": [], "stock": []}
            for _ in range(arguments.rounds):
                for backend, measured in seconds.items():
                    measured.append(_start([*words, f"hardware.backend={backend}"], cache))
            row |= {backend: median(measured) for backend, measured in seconds.items()}
            result["sets"][name] = row | {"seconds": seconds}
        result["second_start_adds"] = median(_load(cache) for _ in range(arguments.rounds))
    return result


def _start(words: list[str], cache: Path) -> float:
    """Return the seconds that ``python -m mtrl`` with these overrides takes to its first environment step.

    Raises:
        RuntimeError: It ended before, or took too long.
    """
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "mtrl", *words, "logging.every=1", f"output={output}"]
        variables, pipe = os.environ | import_alike() | {"NUMBA_CACHE_DIR": str(cache)}, subprocess.PIPE
        started = time.perf_counter()
        with subprocess.Popen(command, env=variables, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                # The first step is a row below the header of the metrics.
                while not any(
                    file.read_text().count("\n") > 1 for file in Path(output).glob("*/*/*/metrics.csv")
                ):
                    if process.poll() is not None or time.perf_counter() - started > _PATIENCE:
                        process.kill()
                        raise RuntimeError(f"{' '.join(command)} made no step: {process.communicate()[1]}")
                    time.sleep(_LOOK_EVERY)
                return time.perf_counter() - started
            finally:
                # The run saves before it ends, into a directory that still exists.
                process.terminate()
                process.communicate()


def _load(cache: Path) -> float:
    """Return the seconds that a new process takes to load the compiled code from ``cache``."""
    variables = os.environ | import_alike() | {"NUMBA_CACHE_DIR": str(cache)}
    loaded = subprocess.run([sys.executable, "-c", _LOAD], env=variables, capture_output=True, text=True)
    if loaded.returncode:
        raise RuntimeError(f"the compiled code cannot be loaded: {loaded.stderr}")
    return float(loaded.stdout)
