"""Where the compiled step is kept on disk, and how it gets there once."""

import contextlib
import hashlib
import importlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

_MARKER = "complete"


def base_directory() -> Path:
    """Return ``NUMBA_CACHE_DIR`` if it is set, else this user's cache directory."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen)
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(user) / "mtrl"


@cache
def fingerprint() -> str:
    """Return 16 hex digits that change with whatever the compiled code depends on.

    numba itself looks at the kernel's file only, at its size and modification time.
    """
    import llvmlite
    import numba
    import numpy

    versions = (numba.__version__, llvmlite.__version__, numpy.__version__, platform.python_version())
    machine = (platform.system(), platform.machine(), llvmlite.binding.get_host_cpu_name())
    here = Path(__file__).parent
    stamp = (here / "kernel.py").stat().st_mtime_ns
    digest = hashlib.sha256(repr((versions, machine, stamp)).encode())
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
    return kernel.step_copies


@contextlib.contextmanager
def _alone(lock: Path, wanted: bool) -> Iterator[None]:
    """Hold a lock between processes, where ``wanted`` and where the file system has locks."""
    if not wanted:
        yield
        return
    with open(lock, "w") as file:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
