"""Runs in processes forked from this one, which has imported all that a run needs, and the files that they leave."""

import contextlib
import fcntl
import functools
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from copy import deepcopy
from multiprocessing import forkserver

import numpy as np
import pytest
import tiny
import torch
from stable_baselines3.common.save_util import load_from_zip_file
from tiny import TINY

from mtrl.checkpoint.state import read_values
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run, run_directory
from mtrl.rundir.checkpoints import verify
from mtrl.rundir.models import step_checkpoints
from mtrl.start import run_one

SECRET = "a-password-of-the-environment"
_compose = functools.cache(lambda *words: compose_run(words))


def compose_for(output, *words):
    """Compose a run in ``output``; the same words are composed once, for that takes nearly as long as a run."""
    composition = deepcopy(_compose(*words))
    composition.config.output = composition.values["output"] = str(output)
    return composition


class ForkedRun:
    """A run in a process of its own, in the light environment unless ``tiny=False``, with the ``fault`` put in first.

    ``faults`` are those of the light environment.
    """

    def __init__(self, output, *overrides, base=TINY, tiny=True, fault=lambda: None, **faults):
        _warm_up()
        composition = compose_for(output, *base, *overrides)
        # Not a file, for which a limit on the size of files would hold, and large enough for all that is printed.
        self._reading, writing = os.pipe2(os.O_NONBLOCK)
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 2**20)
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_run(composition, writing, tiny, fault, faults))
        os.close(writing)

    def end(self, kill_after=None, number=signal.SIGKILL, group=False):
        """Wait for the end, which a signal after some seconds may bring; set code, seconds from then, and printed."""
        if kill_after is not None:
            time.sleep(kill_after)
            (os.killpg if group else os.kill)(self.pid, number)
        sent = time.monotonic()
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.seconds = time.monotonic() - sent
        with open(self._reading, "rb", buffering=0) as file:
            self.printed = (file.read() or b"").decode(errors="replace")
        return self


def forked(output, *overrides, code=0, kill_after=None, number=signal.SIGKILL, **order):
    """Return a forked run that has ended with the exit code given, None for any."""
    ended = ForkedRun(output, *overrides, **order).end(kill_after, number)
    assert code in (None, ended.code), ended.printed
    return ended


def _run(composition, writing, light, fault, faults):
    os.setpgid(0, 0)
    # Also where the tests were started to outlive their terminal.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.set_blocking(writing, True)
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
    # Nothing of the tests' own: neither what collects their logs, nor a server that another process waits for.
    logging.getLogger().handlers.clear()
    forkserver._forkserver._forkserver_pid = None
    os.environ["SECRET"] = SECRET
    # MuJoCo writes its warnings into the present directory.
    os.chdir(tempfile.gettempdir())
    try:
        if light:
            tiny.use_tiny_environment(pytest.MonkeyPatch(), **faults)
        fault()
        return run_one(composition)
    except ConfigurationError as error:
        print(f"mtrl: {error}")
        return 2
    except KeyboardInterrupt:
        # Before the run began to listen: the process dies of it, as others do.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()


@functools.cache
def _warm_up():
    """Run once, so that whatever is imported late is there."""
    with tempfile.TemporaryDirectory() as output, pytest.MonkeyPatch.context() as monkeypatch:
        tiny.use_tiny_environment(monkeypatch)
        with contextlib.redirect_stdout(sys.stderr):
            run_one(compose_run([*TINY, "total_steps=60", f"output={output}"]))


def run_here(output, *overrides, base=TINY):
    """Return the exit code and the files of a run in this process."""
    composition = compose_for(output, *base, *overrides)
    return run_one(composition), RunFiles(run_directory(composition))


def run_files(output, *overrides, base=TINY):
    """Return the files of the run that the overrides describe, which need not exist."""
    return RunFiles(run_directory(compose_for(output, *base, *overrides)))


class RunFiles:
    """The files of one run."""

    def __init__(self, path):
        self.path = path

    @property
    def output(self):
        return self.path.parents[2]

    def copied_to(self, output):
        return RunFiles(shutil.copytree(self.path, output / self.path.relative_to(self.output)))

    @property
    def checkpoints(self):
        return step_checkpoints(self.path)

    def verify(self):
        """Check every visible checkpoint and return the newest one's step, 0 if there is none."""
        for path in self.checkpoints:
            verify(path)
        return int(self.checkpoints[-1].name.removeprefix("step_")) if self.checkpoints else 0

    def text(self, name):
        return (self.path / name).read_text()

    def status(self):
        return json.loads(self.text("status.json"))

    def everything(self):
        """Return all that must be equal in equal runs."""
        newest = self.checkpoints[-1]
        _, parameters, variables = load_from_zip_file(newest / "model.zip", load_data=False)
        state = read_values(newest / "state.json", newest / "state.npz")
        for clock in ("seconds", "logs"):
            del state["session"][clock]
        flat = {name: self.text(name) for name in ("metrics.csv", "evaluation.csv")}
        flatten("state", state, flat)
        flatten("weights", [parameters, variables], flat)
        for segment in json.loads((newest / "manifest.json").read_text())["segments"]:
            low, high = segment["low"], segment["high"]
            with np.load(self.path / "buffer" / f"seg_{low}_{high}.npz") as file:
                arrays = {name: file[name] for name in file.files}
            for number in range(low, high):
                flat |= {f"transition {number} {name}": a[number - low] for name, a in arrays.items()}
        return flat


def flatten(name, value, flat):
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            flatten(f"{name}.{key}", item, flat)
    else:
        flat[name] = value.detach().numpy() if torch.is_tensor(value) else value


def assert_same(one, other, *, transitions=150):
    """Check that two runs are equal, of whose buffers at least so many transitions are compared."""
    mine, theirs = one.everything(), other.everything()
    # Segments may begin earlier in one of them; both hold what the buffer does.
    common = mine.keys() & theirs.keys()
    assert all(name.startswith("transition") for name in mine.keys() ^ theirs.keys())
    assert sum(name.endswith("rewards") for name in common) >= transitions
    for name in sorted(common):
        assert np.array_equal(mine[name], theirs[name]), name
