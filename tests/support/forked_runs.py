"""Runs forked from one warm process, and the files that a run leaves."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from stable_baselines3.common.save_util import load_from_zip_file
from tiny import TINY
from tiny_runs import REPOSITORY

from mtrl.checkpoint.state import read_values
from mtrl.checkpoint.store import verify
from mtrl.experiment import compose_run, run_directory
from mtrl.rundir.models import step_checkpoints

SECRET = "a-password-of-the-environment"


class RunServer:
    """Sends orders to the process ``run_server.py`` and reads its answers."""

    def __init__(self, folder):
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "SECRET": SECRET}
        script = str(Path(__file__).with_name("run_server.py"))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        # MuJoCo writes its warnings into the present directory.
        self.process = subprocess.Popen([sys.executable, script], env=environment, cwd=folder, **pipes)
        assert self.process.stdout.readline() == "ready\n"

    def begin(self, output, *overrides, base=TINY, **order):
        order["overrides"] = [*base, *overrides, f"output={output}"]
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def end(self):
        return json.loads(self.process.stdout.readline())

    def run(self, output, *overrides, code=0, **order):
        """Fork a run, expect its exit code, None for any, and return the answer."""
        self.begin(output, *overrides, **order)
        answer = self.end()
        assert code in (None, answer["code"]), answer["printed"]
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


def run_files(output, *overrides, base=TINY):
    """Return the files of the run that the overrides describe, which need not exist."""
    return RunFiles(run_directory(compose_run([*base, *overrides, f"output={output}"])))


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
