"""Files that a crash leaves whole: written, forced to the disk, and only then given their name."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
