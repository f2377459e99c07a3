"""Files that a crash leaves whole: written, forced to the disk, and only then given their name."""

import contextlib
import csv
import hashlib
import io
import json
import logging
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from io import FileIO
from pathlib import Path
from typing import Any

import yaml

from mtrl.errors import ConfigurationError

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
    """A CSV file that grows by whole rows; each row reaches the disk before ``append`` returns, or waits.

    Args:
        path: The file; an existing one is continued, and must have the same columns.
        columns: Its header.

    Raises:
        ConfigurationError: The file has other columns.
        OSError: The header cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)
        _heal(path)
        self._on_disk = path.stat().st_size if path.exists() else 0
        self._waiting = b""
        if self._on_disk:
            with path.open(newline="") as file:
                found = next(csv.reader(file))
            if found != self.columns:
                raise ConfigurationError(
                    f"{path} has other columns than this run writes: move it aside with fresh=true"
                )
        else:
            self._waiting = _lines([self.columns])
            self.write()

    @property
    def size(self) -> int:
        """Bytes of all rows, those that wait to be written included."""
        return self._on_disk + len(self._waiting)

    @property
    def waits(self) -> bool:
        """Whether there are rows that could not be written yet."""
        return bool(self._waiting)

    def cut(self, size: int) -> None:
        """Forget what was added after the log had ``size`` bytes; a continued run adds it again."""
        if self.size < size:
            logger.warning("%s has lost rows: it is shorter than at the last checkpoint", self.path)
            return
        self._waiting = self._waiting[: max(0, size - self._on_disk)]
        if size < self._on_disk:
            with self.path.open("r+b") as file:
                file.truncate(size)
                os.fsync(file.fileno())
            self._on_disk = size

    def append(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add rows; a missing or None value is an empty cell. What the disk has no room for waits for ``write``."""
        self._waiting += _lines([[_cell(row.get(name)) for name in self.columns] for row in rows])
        try:
            self.write()
        except OSError as error:
            logger.warning("%s: rows wait to be written (%s)", self.path, error)

    def write(self) -> None:
        """Write the rows that wait, if any.

        Raises:
            OSError: The disk is full or broken; the file has its whole rows and no part of one, the others wait on.
        """
        if not self._waiting:
            return
        # Without a buffer, which would write again what was just taken back.
        with self.path.open("ab", buffering=0) as file:
            self._take_back(file)
            try:
                left = memoryview(self._waiting)
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                # What cannot even be shortened is shortened before the next attempt, or healed by the next start.
                with contextlib.suppress(OSError):
                    self._take_back(file)
                raise
            self._on_disk = file.tell()
        self._waiting = b""

    def _take_back(self, file: FileIO) -> None:
        """Remove what a failed attempt left behind the rows that are known to be on the disk."""
        if os.fstat(file.fileno()).st_size > self._on_disk:
            file.truncate(self._on_disk)


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


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
    """Write ``text`` to ``path`` so that a reader, or a crash, finds the old file or the new one.

    Raises:
        OSError: The disk is full or broken; the old file is untouched and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


TEMPORARY, REPLACED = ".tmp-", ".old-"
"""How names of unfinished directories begin, and of those that a new one is about to replace."""


def sync(path: Path) -> None:
    """Force a file's content, or a directory's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def place_file(temporary: Path, target: Path) -> None:
    """Give a finished file its name."""
    sync(temporary)
    temporary.replace(target)
    sync(target.parent)


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Give a directory to fill, which takes the name ``target`` when the block ends and vanishes if it fails.

    What had the name before is replaced; ``recover`` finishes a replacement that a crash cut short.
    """
    temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in sorted(temporary.iterdir()):
            sync(file)
        sync(temporary)
        if target.exists():
            aside = target.with_name(f"{REPLACED}{target.name}-{uuid.uuid4().hex}")
            target.rename(aside)
            temporary.rename(target)
            sync(target.parent)
            shutil.rmtree(aside)
        else:
            temporary.rename(target)
            sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def discard(path: Path) -> None:
    """Delete a directory so that a crash leaves nothing half deleted under its name."""
    doomed = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    path.rename(doomed)
    shutil.rmtree(doomed)


def recover(folder: Path) -> None:
    """Remove what a crash left unfinished in ``folder`` and give replaced directories their names back."""
    if not folder.is_dir():
        return
    for path in folder.glob(f"{REPLACED}*"):
        target = path.with_name(path.name.removeprefix(REPLACED).rpartition("-")[0])
        if target.exists():
            shutil.rmtree(path)
        else:
            path.rename(target)
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
