"""Files that a crash leaves whole: written, forced to the disk, and only then given their name."""

import csv
import io
import json
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from mtrl.errors import ConfigurationError

logger = logging.getLogger(__name__)

TEMPORARY, REPLACED = ".tmp-", ".old-"
"""How names of unfinished directories begin, and of those that a new one is about to replace."""


class CsvLog:
    """A CSV file that grows by whole rows; each row reaches the disk before ``append`` returns, or waits.

    An existing file is continued, without a last line that a crash tore.

    Raises:
        ConfigurationError: The file has other columns.
        OSError: The header cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self._columns = path, list(columns)
        content, header = path.read_bytes() if path.exists() else b"", _lines([self._columns])
        self._on_disk = content.rfind(b"\n") + 1
        if self._on_disk and not content.startswith(header):
            raise ConfigurationError(
                f"{path} has other columns than this run writes: move it aside with fresh=true"
            )
        self._waiting = b"" if self._on_disk else header
        self.write()
        self._truncate()

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
        self._on_disk = min(size, self._on_disk)
        self._truncate()

    def append(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add rows; a missing or None value is an empty cell. What the disk has no room for waits for ``write``."""
        self._waiting += _lines([[_cell(row.get(name)) for name in self._columns] for row in rows])
        try:
            self.write()
        except OSError as error:
            logger.warning("%s: rows wait to be written (%s)", self.path, error)

    def write(self) -> None:
        """Write the rows that wait, if any.

        Raises:
            OSError: The disk is full or broken. The file has whole rows only; the others wait.
        """
        if not self._waiting:
            return
        # Without a buffer, which would write again what was just taken back.
        with self.path.open("ab", buffering=0) as file:
            self._truncate()
            try:
                left = memoryview(self._waiting)
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                # If this fails too, the next attempt or the next start removes the torn row.
                with suppress(OSError):
                    self._truncate()
                raise
        self._on_disk, self._waiting = self.size, b""

    def _truncate(self) -> None:
        """Remove what is no row of the log."""
        if self.path.stat().st_size > self._on_disk:
            with self.path.open("r+b") as file:
                file.truncate(self._on_disk)
                os.fsync(file.fileno())


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _cell(value: object) -> str:
    # Eight digits: more than any plot shows, and the same text for the same run.
    return "" if value is None else f"{value:.8g}" if isinstance(value, float) else str(value)


def replace_file(path: Path, text: str) -> None:
    """Write ``text`` to ``path``; a crash or an OSError leaves the old file or the new one, alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def numbered(path: Path) -> Iterator[Path]:
    """Yield a path and then, where that name is taken, the same with -2, -3 and so on."""
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in count(2))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Replace a JSON file."""
    replace_file(path, json.dumps(values, indent=2) + "\n")


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Replace a YAML file, keys in the order given."""
    replace_file(path, yaml.safe_dump(dict(values), sort_keys=False))


def sync(path: Path) -> None:
    """Force a file's content, or a directory's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield a directory to fill. It takes the name ``target`` when the block ends, and vanishes if it fails.

    What had the name before is replaced; ``recover`` finishes a replacement that a crash cut short.
    """
    temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    aside = target.with_name(f"{REPLACED}{target.name}-{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in (*sorted(temporary.iterdir()), temporary):
            sync(path)
        if target.exists():
            target.rename(aside)
        temporary.rename(target)
        sync(target.parent)
        if aside.exists():
            shutil.rmtree(aside)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def discard(path: Path) -> None:
    """Delete a directory so that a crash leaves nothing half deleted under its name."""
    doomed = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    path.rename(doomed)
    shutil.rmtree(doomed)


def recover(folder: Path) -> None:
    """Remove what a crash left unfinished in ``folder`` and give replaced directories their names back."""
    for path in folder.glob(f"{REPLACED}*"):
        target = path.with_name(path.name.removeprefix(REPLACED).rpartition("-")[0])
        if target.exists():
            shutil.rmtree(path)
        else:
            path.rename(target)
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
