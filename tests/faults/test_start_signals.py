"""A signal while a run starts ends it within seconds, with one line and nothing broken."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from forked_runs import assert_same, forked, run_files
from tiny import TINY
from tiny_runs import REPOSITORY

AT_IMPORT = """
import importlib.abc, os, sys

class Signal(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            open({sent!r}, "w").close()
            os.kill(os.getpid(), {number})

if "mtrl" in sys.orig_argv:
    sys.meta_path.insert(0, Signal())
"""
WHILE_A_WORKER_IS_DESCRIBED = """
import os, signal, sys, time
from multiprocessing import forkserver

def connect_to_new_process(fds, connect=forkserver.connect_to_new_process):
    pipes = connect(fds)
    os.killpg(0, signal.SIGTERM)
    time.sleep(0.5)
    return pipes

if "mtrl" in sys.orig_argv:
    forkserver.connect_to_new_process = connect_to_new_process
"""
NATIVE = [*(words for words in TINY if not words.startswith("hardware.backend")), "hardware.backend=native"]
TERM, INT, USR2 = signal.SIGTERM, signal.SIGINT, signal.SIGUSR2
SOON = 15
"""Seconds within which a signal is obeyed; a busy machine takes six to end two workers."""


class Command:
    """The command as a process of its own group, in an empty folder."""

    def __init__(self, folder, *words, hook=""):
        (folder / "sitecustomize.py").write_text(hook)
        variables = {"PYTHONPATH": f"{folder}:{REPOSITORY}", "OMP_NUM_THREADS": "1"}
        variables |= {"NUMBA_CACHE_DIR": str(folder / "cache")}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.work, words = folder / "work", [sys.executable, "-m", "mtrl", *words]
        self.work.mkdir()
        options = {"cwd": self.work, "env": os.environ | variables, "start_new_session": True}
        self.process = subprocess.Popen(words, **options, **pipes)

    def assert_ended_by(self, number, said="nothing was saved yet in ", *, sent=None):
        """Check the end, once every process that inherited the output is gone, and the line after the summary."""
        output, errors = self.process.communicate(timeout=120)
        assert sent is None or time.time() - sent < SOON
        assert "Traceback" not in errors, errors
        assert self.process.returncode == 128 + number
        assert output.splitlines()[-1].startswith(f"{number.name}: {said}")


def in_turn(cases, *usual):
    """Return the cases as parameters, those that are not usual as slow ones."""
    return [pytest.param(*case, marks=[] if case in usual else pytest.mark.slow) for case in cases]


@pytest.mark.parametrize(
    ("module", "number"),
    in_turn(
        [(module, n) for module in ("hydra", "torch", "mtrl.training.callbacks") for n in (TERM, INT)],
        *[("hydra", TERM), ("hydra", INT), ("torch", INT), ("mtrl.training.callbacks", TERM)],
    ),
)
def test_a_signal_while_modules_are_imported(tmp_path, module, number):
    sent = tmp_path / "sent"
    hook = AT_IMPORT.format(module=module, number=int(number), sent=str(sent))
    command = Command(tmp_path, *TINY, "hardware.workers=1", hook=hook)
    while not sent.exists():
        assert command.process.poll() is None
        time.sleep(0.05)
    command.assert_ended_by(number, "nothing ", sent=sent.stat().st_mtime)
    assert not list(command.work.rglob("checkpoints"))
    if module == "hydra":
        assert not list(command.work.iterdir())


def test_a_signal_while_the_native_environments_are_compiled(tmp_path):
    command = Command(tmp_path, *NATIVE)
    assert "compiling the native environments" in command.process.stderr.readline()
    time.sleep(3)
    assert not list((tmp_path / "cache").rglob("complete"))
    sent = time.time()
    command.process.send_signal(TERM)
    command.assert_ended_by(TERM, sent=sent)


@pytest.mark.parametrize(
    ("number", "wait"), in_turn([(n, wait) for n in (TERM, INT) for wait in (0, 1)], (TERM, 0), (INT, 1))
)
def test_a_signal_to_the_group_while_workers_start(tmp_path, number, wait):
    command = Command(tmp_path, *TINY, "hardware.workers=2")
    pid = command.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    # The tracker of resources, and the process that the workers are forked from.
    while len(children.read_text().split()) < 2:
        assert command.process.poll() is None
        time.sleep(0.01)
    time.sleep(wait)
    sent = time.time()
    os.killpg(pid, number)
    command.assert_ended_by(number, sent=sent)


def test_a_signal_between_the_start_of_a_worker_and_its_description(tmp_path):
    command = Command(tmp_path, *TINY, "hardware.workers=2", hook=WHILE_A_WORKER_IS_DESCRIBED)
    command.assert_ended_by(TERM)


RESTORING = (
    "mtrl.start.find_checkpoints",
    "mtrl.train.make_training_env",
    "mtrl.checkpoint.store.Store.restore",
)


@pytest.mark.parametrize(
    ("entered", "number"),
    in_turn(
        [(entered, number) for entered in RESTORING for number in (TERM, INT, USR2)],
        *zip(RESTORING, (TERM, INT, USR2), strict=True),
    ),
)
def test_a_signal_while_a_run_is_restored(whole, halfway, entered, number):
    before, begun = halfway.verify(), time.monotonic()
    owner, _, name = entered.rpartition(".")
    answer = forked(halfway.output, fault=lambda: tiny.signal_at(number, owner, name), code=128 + number)
    assert time.monotonic() - begun < 30
    assert answer.printed.splitlines()[-1] == (
        f"{number.name}: saved at step {before} in {halfway.path}; the same command continues the run"
    )
    assert "Traceback" not in answer.printed
    assert halfway.verify() == before
    forked(halfway.output)
    assert_same(halfway, whole)


def test_a_signal_before_the_first_step_of_a_new_run_leaves_it_interrupted(whole, tmp_path):
    begun, left = time.monotonic(), run_files(tmp_path)
    fault = {"fault": lambda: tiny.signal_at(TERM, "mtrl.train", "make_agent")}
    assert "nothing was saved yet" in forked(tmp_path, **fault, code=143).printed
    assert time.monotonic() - begun < 30
    assert (left.status()["state"], left.status()["reason"]) == ("interrupted", "SIGTERM")
    forked(tmp_path)
    assert_same(left, whole)
