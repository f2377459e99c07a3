"""Where the compiled step is kept on disk, and how it gets there once."""

import contextlib
import hashlib
import importlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

_MARKER = "complete"
_NAME = re.compile("native-[0-9a-f]{16}")
_UNUSED_DAYS = 30
"""Days without use after which the code of another version is removed."""


def base_directory() -> Path:
    """Return ``NUMBA_CACHE_DIR`` if it is set, else this user's cache directory."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen)
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(user) / "mtrl"


@cache
def fingerprint() -> str:
    """Return 16 hex digits that change with whatever the compiled code depends on.

    numba itself looks at the kernel's file only: at its size and modification time, and at where it lies.
    """
    import llvmlite
    import numba
    import numpy

    versions = (numba.__version__, llvmlite.__version__, numpy.__version__, platform.python_version())
    machine = (platform.system(), platform.machine(), llvmlite.binding.get_host_cpu_name())
    # As numba does: without following links.
    here = Path(os.path.abspath(__file__)).parent
    stamp = (here / "kernel.py").stat().st_mtime_ns
    digest = hashlib.sha256(repr((versions, machine, str(here), stamp)).encode())
    for source in sorted(here.rglob("*.py")):
        digest.update(str(source.relative_to(here)).encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def directory() -> Path:
    """Return the directory of the code compiled from these sources on this kind of machine."""
    return base_directory() / f"native-{fingerprint()}"


def unwritable() -> str | None:
    """Return why the cache directory cannot be written, in one sentence, or None."""
    place = directory()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = error.strerror or error
        return f"{place} for compiled code cannot be written ({reason}): set NUMBA_CACHE_DIR to one that can"
    return None


@cache
def compiled_step() -> Callable[..., None]:
    """Return ``kernel.step_copies``, loaded from the cache or compiled into it with a message on stderr.

    Processes that start together wait for the first one's compilation.

    Raises:
        RuntimeError: numba finds the cache directory unusable (see ``unwritable``).
    """
    from numba import config

    place = directory()
    place.mkdir(parents=True, exist_ok=True)
    marker = place / _MARKER
    with _alone(place / "lock", wanted=not marker.exists()):
        compiling = not marker.exists()
        if not compiling:
            # Before it is read: whoever removes what nobody uses looks at this time.
            with contextlib.suppress(OSError):
                os.utime(marker)
        started = time.perf_counter()
        if compiling:
            print(
                "mtrl: compiling the native environments, once on this machine ...",
                file=sys.stderr,
                flush=True,
            )
        # The decorators in the kernel read numba's setting; other users of numba in this process keep theirs.
        previous, config.CACHE_DIR = config.CACHE_DIR, str(place)
        try:
            kernel = importlib.import_module("mtrl.env.native.kernel")
        finally:
            config.CACHE_DIR = previous
        if compiling:
            marker.touch()
            seconds = time.perf_counter() - started
            print(f"mtrl: compiled in {seconds:.0f} s, kept in {place}", file=sys.stderr, flush=True)
    _remove_unused(place)
    return kernel.step_copies


def _remove_unused(used: Path) -> None:
    """Remove the code of other versions that no process has used for a month; each version takes megabytes."""
    oldest = time.time() - _UNUSED_DAYS * 24 * 3600
    for place in used.parent.glob("native-*"):
        # Several processes may come here at once, and a directory may be another user's.
        with contextlib.suppress(OSError):
            if place == used or not _NAME.fullmatch(place.name) or _last_use(place) > oldest:
                continue
            # Renamed first: nobody finds a half of it, and of two who would remove it one fails here.
            aside = place.with_name(f"removed-{place.name}-{os.getpid()}")
            place.rename(aside)
            shutil.rmtree(aside)


def _last_use(place: Path) -> float:
    """Return when the code in ``place`` was last read, or, where none is whole, when something was written."""
    marker = place / _MARKER
    return (marker if marker.exists() else place).stat().st_mtime


@contextlib.contextmanager
def _alone(lock: Path, wanted: bool) -> Iterator[None]:
    """Hold a lock between processes, where ``wanted`` and where the file system has locks; say it if one waits."""
    if not wanted:
        yield
        return
    with open(lock, "w") as file:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(
                    "mtrl: another process is compiling the native environments, waiting for it ...",
                    file=sys.stderr,
                    flush=True,
                )
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
