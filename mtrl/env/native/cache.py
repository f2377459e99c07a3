"""Where code that numba compiles is kept on disk, and how it gets there once.

A module of compiled functions is imported through ``load``. With it belong the files beside it and below.
"""

import contextlib
import hashlib
import importlib
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from mtrl.rundir.lock import lock

_MARKER = "complete"
_NAME = re.compile("native-[0-9a-f]{16}")
_UNUSED_DAYS = 30
"""Days without use after which the code of another version, or of a module no longer used, is removed."""
_importing = threading.Lock()
"""Held while numba's cache directory, one for the process, is another."""


def base_directory() -> Path:
    """Return ``NUMBA_CACHE_DIR`` if it is set, else this user's cache directory."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen)
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(user) / "mtrl"


@cache
def fingerprint(module: str) -> str:
    """Return 16 hex digits that change with whatever the compiled code of ``module`` depends on.

    numba itself looks at the module's file only: at its size and modification time, and at where it lies.
    """
    import llvmlite
    import numba
    import numpy

    versions = (numba.__version__, llvmlite.__version__, numpy.__version__, platform.python_version())
    machine = (platform.system(), platform.machine(), llvmlite.binding.get_host_cpu_name())
    file = _file(module)
    digest = hashlib.sha256(repr((versions, machine, str(file), file.stat().st_mtime_ns)).encode())
    for source in sorted(file.parent.rglob("*.py")):
        digest.update(str(source.relative_to(file.parent)).encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _file(module: str) -> Path:
    # As numba does: without following links.
    return Path(os.path.abspath(find_spec(module).origin))


def directory(module: str) -> Path:
    """Return the directory of the code compiled from these sources on this kind of machine."""
    return base_directory() / f"native-{fingerprint(module)}"


def unusable(module: str) -> str | None:
    """Return why ``module`` cannot be compiled here, in one sentence, or None."""
    if find_spec("numba") is None:
        return "numba is not installed: pip install 'mtrl-metaworld[native]'"
    try:
        import numba
    except ImportError as error:
        return f"numba cannot be imported ({error}): pip install --upgrade numba"
    if numba.config.DISABLE_JIT:
        return "numba is told to compile nothing: unset NUMBA_DISABLE_JIT"
    return _unwritable(directory(module))


def _unwritable(place: Path) -> str | None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = error.strerror or error
        return f"{place} for compiled code cannot be written ({reason}): set NUMBA_CACHE_DIR to one that can"
    return None


@cache
def load(module: str, what: str) -> ModuleType:
    """Import ``module``, its code loaded from the cache or compiled into it with a message on stderr.

    Processes that start together wait for the first one's compilation.

    Args:
        module: Its full name.
        what: What it compiles, for the message.

    Raises:
        RuntimeError: numba finds the cache directory unusable (see ``unusable``).
    """
    with _importing:
        return _load(module, what)


def _load(module: str, what: str) -> ModuleType:
    from numba import config

    place = directory(module)
    place.mkdir(parents=True, exist_ok=True)
    marker = place / _MARKER
    with _alone(place / "lock", what, wanted=not marker.exists()):
        compiling = not marker.exists()
        if not compiling:
            # Before it is read: whoever removes what nobody uses looks at this time.
            with contextlib.suppress(OSError):
                os.utime(marker)
        started = time.perf_counter()
        if compiling:
            print(f"mtrl: compiling {what}, once on this machine ...", file=sys.stderr, flush=True)
        # The decorators read numba's setting; other users of numba in this process keep theirs.
        previous, config.CACHE_DIR = config.CACHE_DIR, str(place)
        try:
            loaded = importlib.import_module(module)
        finally:
            config.CACHE_DIR = previous
        if compiling:
            marker.touch()
            seconds = time.perf_counter() - started
            print(f"mtrl: compiled in {seconds:.0f} s, kept in {place}", file=sys.stderr, flush=True)
    _remove_unused(place)
    return loaded


def _remove_unused(used: Path) -> None:
    """Remove code that no process has used for a month, such as other versions'; each takes megabytes."""
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
def _alone(path: Path, what: str, wanted: bool) -> Iterator[None]:
    """Hold a lock between processes, where ``wanted`` and where the file system has locks; say it if one waits."""
    if not wanted:
        yield
        return
    with open(path, "w") as file:
        with contextlib.suppress(OSError):
            message = f"mtrl: another process is compiling {what}, waiting for it ..."
            lock(file.fileno(), lambda: print(message, file=sys.stderr, flush=True))
        yield
