"""What a run runs on: package versions, commit, machine, command line. No environment variables."""

import os
import platform
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    *("mtrl-metaworld", "metaworld", "mujoco", "gymnasium", "stable-baselines3"),
    *("torch", "numpy", "numba", "hydra-core", "omegaconf"),
)


def environment() -> dict[str, Any]:
    """Return the content of ``environment.json``."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    processors = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": next(processors, None) or platform.processor(),
        "cores": os.cpu_count(),
        "versions": versions(),
        "git": _git_state(),
    }


def import_alike() -> dict[str, str]:
    """Return the variables with which a Python process of ours imports what this one does.

    ``python -m`` and ``-c`` would import what lies in the working directory first, perhaps another ``mtrl``.
    """
    return {} if sys.path[:1] in ([""], [os.getcwd()]) else {"PYTHONSAFEPATH": "1"}


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that results depend on; None for one that is not installed."""
    found = {name: next(iter(metadata.distributions(name=name)), None) for name in _PACKAGES}
    return {name: package and package.version for name, package in found.items()}


def _git_state() -> dict[str, Any] | None:
    """Return the commit of this project's checkout and whether it has changes; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "status", "--porcelain=v2", "--branch"]
    try:
        status = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=True, timeout=5)
        # "# branch.oid 0123..." comes first; lines without "#" are changes.
        lines = status.stdout.decode(errors="replace").splitlines()
        return {"commit": lines[0].split()[-1], "dirty": any(not line.startswith("#") for line in lines)}
    except (OSError, subprocess.SubprocessError, LookupError):
        return None
