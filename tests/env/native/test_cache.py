"""Compiled code is kept on disk, and stock environments take over where it cannot be."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numba
import pytest
from numba.core.caching import IndexDataCacheFile
from tiny_runs import REPOSITORY

from mtrl.env import make as factory
from mtrl.env import native
from mtrl.env.native import cache, mujoco_c

LOAD = "from mtrl.env.native import cache; cache.load(['sample_kernel'])"
SAMPLE = """
import numba


@numba.njit("int64(int64)", cache=True)
def one(x):
    return x + 1


@numba.njit("int64(int64)", cache=True)
def two(x):
    return x + 2
"""


def start(code, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def sample(tmp_path_factory, monkeypatch):
    """Return the name of a module that compiles in a second, importable here and in processes."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "sample_kernel.py").write_text(SAMPLE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{REPOSITORY}")
    yield "sample_kernel"
    sys.modules.pop("sample_kernel", None)


def finish(process):
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output, errors


def test_processes_that_start_together_compile_once(tmp_path, monkeypatch, sample):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    place = cache.directory()
    place.mkdir()
    # As if a third one were compiling: both find it at work and say that they wait.
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        together = [start(LOAD) for _ in range(2)]
        waiting = "mtrl: another process is compiling them, waiting for it ...\n"
        assert [process.stderr.readline() for process in together] == [waiting] * 2
    messages = [finish(process)[1] for process in together]
    # It ended without having compiled: one of them does, the other uses what it finds.
    compiling = "mtrl: compiling the native environments (sample_kernel), once"
    assert sorted(compiling in message for message in messages) == [False, True]
    written_code = list(tmp_path.rglob("*.nbc"))
    assert len(written_code) == 2
    written = [code.stat().st_mtime_ns for code in written_code]
    assert "compiling" not in finish(start(LOAD))[1]
    assert [code.stat().st_mtime_ns for code in written_code] == written


def aged(base, name, days):
    place = base / name
    (place / "below").mkdir(parents=True)
    (place / "below" / "kernel.nbc").touch()
    os.utime(place, (time.time() - days * 24 * 3600,) * 2)
    return place


def test_code_of_other_versions_goes_when_nobody_has_used_it_for_a_month(tmp_path, monkeypatch, sample):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    mine = aged(tmp_path, cache.directory().name, 400)
    names = ("native-0123456789abcdef", "native-of-somebody-else", "something")
    kept = [mine, *(aged(tmp_path, name, days) for name, days in zip(names, (29, 400, 400), strict=True))]
    aged(tmp_path, "native-2123456789abcdef", 31)
    # Another process removes a third one between this one's look at it and its own attempt.
    vanishing = aged(tmp_path, "native-4123456789abcdef", 31)
    rename = Path.rename

    def remove_first(place, target):
        if place == vanishing:
            shutil.rmtree(place)
        return rename(place, target)

    monkeypatch.setattr(Path, "rename", remove_first)
    # Numba would otherwise do so while it compiles, as its variable is another one now.
    numba.core.config.reload_config()
    cache.load([sample])
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    # Its use is noted.
    assert time.time() - mine.stat().st_mtime < 3600


def test_cache_lies_in_the_users_cache_directory(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(cache, "_of_this_process", [])
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.directory().parent == tmp_path / "mtrl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.directory().parent == tmp_path / "home" / ".cache" / "mtrl"
    # A user whom the system does not know has no home.
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    assert cache.directory().parent == tmp_path / f"mtrl-{os.getuid()}"
    cache.load([])
    assert (tmp_path / f"mtrl-{os.getuid()}").stat().st_mode & 0o777 == 0o700
    assert not caplog.records
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    cache.load([])
    assert "another user's" in caplog.text
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    assert cache.directory().parent == tmp_path / "numba"


def test_each_checkout_has_a_directory_of_its_own_as_numba_keeps_its_code_apart(tmp_path):
    # Sources and modification times are the same.
    copy = shutil.copytree(cache.SOURCES, tmp_path / "native", ignore=shutil.ignore_patterns("__pycache__"))
    mine = cache.fingerprint(cache.SOURCES)
    assert cache.fingerprint(copy) != mine
    (copy / "tasks" / "hammer.py").touch()
    cache.fingerprint.cache_clear()
    assert cache.fingerprint(cache.SOURCES) == mine


@pytest.fixture
def own_cache(tmp_path, monkeypatch, sample):
    """Return the directory of a cache that holds the compiled sample, which is not loaded here."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_of_this_process", [])
    numba.core.config.reload_config()
    cache.load([sample])
    sys.modules.pop(sample)
    return cache.directory()


def truncate(file):
    file.write_bytes(file.read_bytes()[:100])


def flip_a_byte(file):
    code = bytearray(file.read_bytes())
    code[len(code) // 2] ^= 1
    file.write_bytes(code)


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, Path.unlink])
@pytest.mark.parametrize("what", ["*.nbc", "*.nbi", "whole.json"])
def test_damaged_compiled_code_is_made_anew(own_cache, sample, capsys, what, damage):
    damage(next(own_cache.rglob(what)))
    capsys.readouterr()
    (module,) = cache.load([sample])
    assert (module.one(1), module.two(1)) == (2, 3)
    said = capsys.readouterr().err
    assert "mtrl: compiling the native environments (sample_kernel)" in said
    assert (f"compiled code in {own_cache} is damaged" in said) is not (
        what == "whole.json" and damage is Path.unlink
    )
    sys.modules.pop(sample)
    cache.load([sample])
    assert capsys.readouterr().err == ""


def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("owner", "name", "value", "reason"),
    [
        (cache, "base_directory", lambda: Path(__file__) / "below", "Not a directory"),
        (IndexDataCacheFile, "_save_data", full, "No space left on device"),
    ],
)
def test_where_code_cannot_be_kept_a_process_compiles_for_itself_and_says_so_once(
    tmp_path, monkeypatch, caplog, sample, owner, name, value, reason
):
    for variable in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cache, "_of_this_process", [])
    numba.core.config.reload_config()
    calls = []

    def once(*arguments):
        calls.append(arguments)
        return (
            value(*arguments) if len(calls) == 1 or owner is not IndexDataCacheFile else original(*arguments)
        )

    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, once)
    for _ in range(2):
        (module,) = cache.load([sample])
        assert module.one(1) == 2
    (record,) = caplog.records
    assert reason in record.getMessage()
    assert "set NUMBA_CACHE_DIR to a directory that can be written" in record.getMessage()
    assert cache._of_this_process[0].is_dir()
    assert not list(tmp_path.rglob("*.nbc"))


def no_symbol():
    raise AttributeError("undefined symbol: mj_forward")


@pytest.fixture
def checked_anew():
    def forget():
        mujoco_c.check.cache_clear()
        mujoco_c.struct.cache_clear()

    forget()
    yield
    forget()


STRUCT = mujoco_c.structs.STRUCTS["mjModel"]


@pytest.mark.parametrize(
    ("owner", "name", "value", "sentence"),
    [
        (cache, "find_spec", lambda name: None, "numba is not installed"),
        (numba.config, "DISABLE_JIT", 1, "unset NUMBA_DISABLE_JIT"),
        (mujoco_c, "function_addresses", no_symbol, "lacks a symbol"),
        (STRUCT, "fields", STRUCT.fields[:40] + STRUCT.fields[41:], "lays out its data"),
    ],
)
@pytest.mark.usefixtures("checked_anew")
def test_stock_takes_over_with_one_warning_line(owner, name, value, sentence, monkeypatch, caplog):
    monkeypatch.setattr(owner, name, value)
    assert sentence in native.unavailable()
    assert factory.choose_backend("auto", ["reach-v3"], "v2") == "stock"
    assert len(caplog.records) == 1
    assert sentence in caplog.text
    assert "\n" not in caplog.records[0].getMessage()
    with pytest.raises(ValueError, match="native backend cannot be used"):
        factory.choose_backend("native", ["reach-v3"], "v2")
