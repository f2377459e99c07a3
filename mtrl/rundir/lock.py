"""Locks between processes; the operating system frees them however the holder ends."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mtrl.errors import ConfigurationError, DirectoryChangedError
from mtrl.rundir.write import HELD
from mtrl.text import printable

_NAME, _HELD = "run.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW


def lock(descriptor: int, when_held: Callable[[], None] = lambda: None) -> None:
    """Lock an open file until it is closed; if another process holds it, call ``when_held``, then wait.

    Raises OSError where the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        when_held()
        fcntl.flock(descriptor, fcntl.LOCK_EX)


class RunLock:
    """Holds the run directory ``path``, which is made if need be.

    If another process holds it and ``wait`` is True, that is printed, and ``waited`` says so once it is free.

    Raises:
        ConfigurationError: Another process holds it, or the directory cannot be made.
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self._path, self._wait, self.waited = path, wait, False
        self._acquire()

    def _acquire(self) -> None:
        while True:
            try:
                self._path.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self._path / _NAME, _HELD, 0o644)
            except OSError as error:
                raise ConfigurationError(
                    f"{self._path} cannot be written ({error.strerror}): name another with output=..."
                ) from error
            lock(self._descriptor, self._is_held)
            if self._is_in_place():
                break
            # The directory was moved aside between opening the file and locking it.
            self.close()
        os.ftruncate(self._descriptor, 0)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "time": moment}
        os.pwrite(self._descriptor, (json.dumps(facts) + "\n").encode(), 0)
        HELD[self._path] = self._check

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path / _NAME), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _check(self) -> None:
        if not self._is_in_place():
            raise DirectoryChangedError(
                f"{self._path} was moved or deleted while the run wrote to it: put it back"
            )

    def _is_held(self) -> None:
        holder = _holder(self._descriptor)
        if not self._wait:
            self.close()
            raise ConfigurationError(f"{self._path} is in use by {holder}: wait for it, or stop it first")
        print(f"waiting for {holder}, which is at {self._path}", flush=True)
        self.waited = True

    def move_aside(self, aside: Path) -> None:
        """Rename the directory to ``aside`` and hold a new, empty one in its place."""
        self._path.rename(aside)
        self.close()
        self._acquire()

    def close(self) -> None:
        """Let others have the directory."""
        HELD.pop(self._path, None)
        os.close(self._descriptor)


def holder_of(path: Path) -> str | None:
    """Return who holds a run directory; None if nobody does."""
    with (
        suppress(OSError),
        os.fdopen(os.open(path / _NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file,
    ):
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(file.fileno())
    return None


def _holder(descriptor: int) -> str:
    try:
        facts = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {int(facts['pid'])} on {printable(facts['host'])}"
    except (ValueError, LookupError, TypeError, RecursionError):
        return "another process"
