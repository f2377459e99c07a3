"""Where the code that numba compiles is kept on disk, and how it gets there once."""

import atexit
import contextlib
import errno
import hashlib
import importlib
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from mtrl.rundir.lock import lock

SOURCES = Path(os.path.abspath(__file__)).parent
"""The compiled modules lie here and below; links are not followed, as numba does not follow them either."""

_WHOLE = "whole.json"
"""The file beside the compiled code that says which modules are compiled as a whole, and its files' checksums."""
_UNUSED_DAYS = 30
_importing = threading.Lock()
"""Held while numba's cache directory, one for the process, is another."""
_of_this_process: list[Path] = []
"""Where this process keeps compiled code if the cache cannot be written."""

logger = logging.getLogger(__name__)


def base_directory() -> Path:
    """Return ``NUMBA_CACHE_DIR`` if it is set, else this user's cache directory."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen)
    folders = (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache"))
    user = next(filter(os.path.isabs, folders), None)
    # A user whom the system does not know, a cluster's number, has no home.
    return Path(user) / "mtrl" if user else Path(tempfile.gettempdir()) / f"mtrl-{os.getuid()}"


@cache
def fingerprint(sources: Path = SOURCES) -> str:
    """Return 16 hex digits that change with whatever compiled code depends on.

    numba itself looks at each module's own file only: at its size and modification time, and at where it lies.
    """
    import llvmlite
    import numba
    import numpy

    versions = (numba.__version__, llvmlite.__version__, numpy.__version__, platform.python_version())
    machine = (platform.system(), platform.machine(), llvmlite.binding.get_host_cpu_name())
    digest = hashlib.sha256(repr((versions, machine, str(sources))).encode())
    for file in sorted(sources.rglob("*.py")):
        digest.update(f"{file.relative_to(sources)} {file.stat().st_mtime_ns}".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def directory() -> Path:
    """Return the directory of the code compiled from these sources on this kind of machine."""
    return base_directory() / f"native-{fingerprint()}"


def unusable() -> str | None:
    """Return why nothing can be compiled here, in one sentence, or None."""
    if find_spec("numba") is None:
        return "numba is not installed: pip install 'mtrl-metaworld[native]'"
    try:
        import numba
    except ImportError as error:
        return f"numba cannot be imported ({error}): pip install --upgrade numba"
    return "numba is told to compile nothing: unset NUMBA_DISABLE_JIT" if numba.config.DISABLE_JIT else None


def load(modules: Sequence[str], function: str = "") -> list[ModuleType]:
    """Import modules, their code loaded from the cache or compiled into it with a message on stderr.

    Processes that start together wait for the first one's compilation. Where the cache cannot be written, the code is
    compiled for this process alone, and a warning says so. ``function`` names which of the functions that compile when
    they are asked for (``maths.rewards``) is needed, in the modules that have it.
    """
    with _importing:
        if not _of_this_process:
            try:
                place = directory()
                loaded = _load(place, modules, function)
                _remove_unused(place)
                return loaded
            # numba's own complaint of a directory is a RuntimeError.
            except (OSError, RuntimeError) as error:
                logger.warning(
                    "compiled code cannot be kept (%s), so this process compiles for itself alone: "
                    "set NUMBA_CACHE_DIR to a directory that can be written",
                    error,
                )
                _of_this_process.append(Path(tempfile.mkdtemp(prefix="mtrl-native-")))
                atexit.register(shutil.rmtree, _of_this_process[0], ignore_errors=True)
        return _load(_of_this_process[0], modules, function)


def _load(place: Path, modules: Sequence[str], function: str) -> list[ModuleType]:
    from numba import config

    base = place.parent
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Where all may write, somebody else may have made it; what numba loads from there is run.
    if base.name == f"mtrl-{os.getuid()}" and base.lstat().st_uid != os.getuid():
        raise PermissionError(errno.EACCES, "it is another user's", str(base))
    place.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        # For whoever removes what nobody uses.
        os.utime(place)
    with contextlib.ExitStack() as held:
        whole = _whole(place)
        if not all(f"{module}-{function}" in whole for module in modules):
            descriptor = held.enter_context(open(place / "lock", "w")).fileno()
            # Without locks, several processes compile the same.
            with contextlib.suppress(OSError):
                lock(descriptor, lambda: _say("another process is compiling them, waiting for it ..."))
            whole = _whole(place, clean=True)
        missing = [module for module in modules if f"{module}-{function}" not in whole]
        started = time.perf_counter()
        if missing:
            names = ", ".join(module.split(".")[-1] for module in missing)
            _say(f"compiling the native environments ({names}), once on this machine ...")
        # The decorators read numba's setting; other users of numba in this process keep theirs.
        previous, config.CACHE_DIR = config.CACHE_DIR, str(place)
        try:
            loaded = [importlib.import_module(module) for module in modules]
            for module in loaded:
                if hasattr(module, function):
                    getattr(module, function).address  # noqa: B018 - compiles it
        finally:
            config.CACHE_DIR = previous
        if missing:
            whole |= {f"{module}-{function}" for module in missing}
            new = place / f"{_WHOLE}-{os.getpid()}"
            new.write_text(json.dumps({"whole": sorted(whole), "files": _checksums(place)}))
            new.replace(place / _WHOLE)
            _say(f"compiled in {time.perf_counter() - started:.0f} s, kept in {place}")
    return loaded


def _checksums(place: Path) -> dict[str, int]:
    return {str(file.relative_to(place)): zlib.crc32(file.read_bytes()) for file in place.glob("*/*.nb[ic]")}


def _whole(place: Path, *, clean: bool = False) -> set[str]:
    """Return which modules are compiled as a whole, none where a file is not what was written.

    numba would run what a damaged file holds. ``clean`` removes such files, and those of an interrupted compilation.
    """
    try:
        record = json.loads((place / _WHOLE).read_text())
        written, whole = dict(record["files"]), set(record["whole"])
    except FileNotFoundError:
        written, whole = {}, set()
    except (ValueError, KeyError, TypeError):
        written, whole = {"": 0}, set()
    found = _checksums(place)
    damaged = any(found.get(name) != checksum for name, checksum in written.items())
    if clean:
        if damaged:
            _say(f"compiled code in {place} is damaged and made anew")
        for name in found if damaged else found.keys() - written.keys():
            (place / name).unlink(missing_ok=True)
    return set() if damaged else whole


def _say(sentence: str) -> None:
    print(f"mtrl: {sentence}", file=sys.stderr, flush=True)


def _remove_unused(used: Path) -> None:
    """Remove code, such as other versions', that no process has used for a month; each takes megabytes."""
    oldest = time.time() - _UNUSED_DAYS * 24 * 3600
    for place in used.parent.glob(f"native-{'[0-9a-f]' * 16}"):
        # Several processes may come here at once, and a directory may be another user's.
        with contextlib.suppress(OSError):
            if place != used and place.stat().st_mtime < oldest:
                # Renamed first: nobody finds a half of it, and of two who would remove it one fails here.
                shutil.rmtree(place.rename(place.with_name(f"removed-{place.name}-{os.getpid()}")))
