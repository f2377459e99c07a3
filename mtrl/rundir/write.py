"""Files that a crash leaves whole: written, forced to the disk, and only then given their name."""

import csv
import io
import json
import logging
import os
import shutil
import stat
import threading
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mtrl.errors import ConfigurationError, DirectoryChangedError

logger = logging.getLogger(__name__)

TEMPORARY, REPLACED, BAD = ".tmp-", ".old-", ".bad-"
"""How names of unfinished directories begin, of those that a new one is about to replace, and of what is damaged."""

HELD: dict[Path, Callable[[], None]] = {}
"""The run directories that this process has locked, and what raises once one of them is no longer there."""


def check_in_place(path: Path) -> None:
    """Raise DirectoryChangedError if ``path`` lies in a run directory that was moved or deleted since it was locked."""
    for folder, check in HELD.items():
        if folder == path or folder in path.parents:
            check()


class CsvLog:
    """A CSV file that grows by whole rows; each row reaches the disk before ``append`` returns, or waits.

    One that exists is continued: ``set_state`` says from where. Raises OSError if the header cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self._columns, self._header = path, list(columns), _lines([columns])
        self._on_disk = path.stat().st_size if path.exists() else 0
        self._waiting = b"" if self._on_disk else self._header
        self._sums = [zlib.crc32(self._header)]
        """Of every row, those that wait included."""
        self.write()

    @property
    def size(self) -> int:
        """Bytes of all rows, those that wait to be written included."""
        return self._on_disk + len(self._waiting)

    @property
    def waits(self) -> bool:
        """Whether there are rows that could not be written yet."""
        return bool(self._waiting)

    def get_state(self) -> dict[str, Any]:
        """Return how long the log is, and a checksum of each row."""
        return {"size": self.size, "rows": np.array(self._sums, dtype=np.uint32)}

    def set_state(self, state: int | Mapping[str, Any]) -> None:
        """Continue where ``get_state`` was called: later rows are forgotten, for a continued run adds them again.

        Rows that are not what was written are left out, and the file as it was is put aside. Version 0.1.0 saved the
        size alone. Raises ConfigurationError if the log has other columns.
        """
        size, sums = (state, None) if isinstance(state, int) else (state["size"], state["rows"].tolist())
        self._waiting = self._waiting[: max(0, size - self._on_disk)]
        with self.path.open("rb") as file:
            content = file.read(min(size, self._on_disk))
        found = _rows(content)
        sums = sums or [*map(zlib.crc32, found or [self._header])]
        if sums[0] != zlib.crc32(self._header):
            raise ConfigurationError(
                f"{self.path} has other columns than this run writes: move it aside with fresh=true"
            )
        known = set(sums[1:])
        rows = [self._header, *(row for row in found if zlib.crc32(row) in known)]
        if len(content) + len(self._waiting) < size:
            logger.warning("%s has lost rows: it is shorter than at the last checkpoint", self.path)
        if found and rows != found:
            damaged = f"{len(set(found) - set(rows))} of {len(found)}"
            put_aside(self.path, f"{damaged} rows are not what was written, and are left out")
            replace_file(self.path, b"".join(rows).decode())
        self._on_disk = sum(map(len, rows))
        self._sums = [*map(zlib.crc32, (*rows, *_rows(self._waiting)))]
        if self.path.stat().st_size > self._on_disk:
            os.truncate(self.path, self._on_disk)
            sync(self.path)

    def append(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add rows; a missing or None value is an empty cell. What the disk has no room for waits for ``write``."""
        added = _lines([_cell(row.get(name)) for name in self._columns] for row in rows)
        self._waiting += added
        self._sums += map(zlib.crc32, _rows(added))
        try:
            self.write()
        except OSError as error:
            logger.warning("%s: rows wait to be written (%s)", self.path, error)

    def write(self) -> None:
        """Write the rows that wait, if any.

        Raises OSError if the disk is full or broken: the file has whole rows only, and the others wait.
        """
        if not self._waiting:
            return
        check_in_place(self.path)
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < self._on_disk:
            raise DirectoryChangedError(f"{self.path} was cut or deleted while the run wrote to it")
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        # Without a buffer, which would write again what was just taken back.
        with open(descriptor, "ab", buffering=0) as file:
            file.truncate(self._on_disk)
            try:
                left = memoryview(self._waiting)
                while left:
                    left = left[file.write(left) :]
                os.fsync(descriptor)
            except OSError:
                # If this fails too, the next attempt or the next start removes the torn row.
                with suppress(OSError):
                    file.truncate(self._on_disk)
                raise
        self._on_disk, self._waiting = self.size, b""


def _rows(content: bytes) -> list[bytes]:
    return [line + b"\n" for line in content.split(b"\n")[:-1]]


def _lines(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _cell(value: object) -> str:
    # Eight digits: more than any plot shows, and the same text for the same run.
    return "" if value is None else f"{value:.8g}" if isinstance(value, float) else str(value)


def replace_file(path: Path, text: str) -> None:
    """Write ``text`` to ``path``; a crash or an OSError leaves the old file or the new one, alone."""
    check_in_place(path)
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
    check_in_place(target)
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
            remove(aside)
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
            remove(path)
        else:
            path.rename(target)
    for path in folder.glob(f"{TEMPORARY}*"):
        remove(path)


def remove(path: Path) -> None:
    """Delete a file, a link, or a directory with all that is in it."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def put_aside(path: Path, why: object) -> None:
    """Give a damaged file or directory another name, and say so."""
    aside = path.with_name(f"{BAD}{path.name}-{uuid.uuid4().hex[:8]}")
    path.rename(aside)
    logger.warning("%s is put aside as %s: %s", path, aside.name, why)


def refuse_links(folder: Path) -> None:
    """Raise ConfigurationError if a link or a device lies below ``folder``: what is written would go elsewhere."""
    for directory, folders, files in os.walk(folder):
        # Weights & Biases links to its newest run in a folder of its own.
        if Path(directory).name == "wandb" and directory != str(folder):
            folders.clear()
            continue
        for path in (Path(directory, name) for name in (*folders, *files)):
            if stat.S_IFMT(path.lstat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
                raise ConfigurationError(f"{path} is a link: put what it names in its place, or delete it")
