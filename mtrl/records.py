"""What a run writes about itself: CSV logs that only grow, and small files replaced in one step."""

import csv
import json
import logging
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from mtrl.config import ConfigurationError

logger = logging.getLogger(__name__)

_VERSIONS = (
    "mtrl-metaworld",
    "metaworld",
    "mujoco",
    "gymnasium",
    "stable-baselines3",
    "torch",
    "numpy",
    "numba",
    "hydra-core",
    "omegaconf",
)


class CsvLog:
    """A CSV file that grows by whole rows; each row reaches the disk before ``append`` returns.

    Args:
        path: The file; an existing one is continued, and must have the same columns.
        columns: Its header.

    Raises:
        ConfigurationError: The file has other columns.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)
        _heal(path)
        if path.exists() and path.stat().st_size:
            with path.open(newline="") as file:
                found = next(csv.reader(file))
            if found != self.columns:
                raise ConfigurationError(
                    f"{path} has other columns than this run writes: move it aside with fresh=true"
                )
        else:
            self._write([self.columns])

    @property
    def size(self) -> int:
        """Bytes written so far, all of them on the disk."""
        return self.path.stat().st_size

    def cut(self, size: int) -> None:
        """Forget what was written after the file had ``size`` bytes; a continued run writes it again."""
        if self.size < size:
            logger.warning("%s has lost rows: it is shorter than at the last checkpoint", self.path)
            return
        with self.path.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def append(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add rows; a missing or None value is an empty cell."""
        self._write([[_cell(row.get(name)) for name in self.columns] for row in rows])

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
            file.flush()
            os.fsync(file.fileno())


def _heal(path: Path) -> None:
    """Remove a last line that a crash tore."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
            os.fsync(file.fileno())


def _cell(value: object) -> str:
    if value is None:
        return ""
    # Eight digits: more than any plot shows, and the same text for the same run.
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def replace_file(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that a reader, or a crash, finds the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Replace a JSON file."""
    replace_file(path, json.dumps(values, indent=2) + "\n")


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Replace a YAML file, keys in the order given."""
    replace_file(path, yaml.safe_dump(dict(values), sort_keys=False))


def environment() -> dict[str, Any]:
    """Return what the run runs on: versions, commit, machine, command line; no environment variables."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions(),
        "git": _git_state(Path(__file__).parent),
    }


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that results depend on; None where one is not installed."""
    return {name: _version(name) for name in _VERSIONS}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout of ``folder`` and whether it has changes; None outside of one."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
