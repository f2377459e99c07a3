"""The process that forks the runs of these tests, and what they leave."""

import json
import os
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
from mtrl.config.compose import compose_run
from mtrl.experiment import run_directory

SECRET = "a-password-of-the-environment"


class Nursery:
    """Sends orders to the process and reads its answers."""

    def __init__(self, folder):
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "SECRET": SECRET}
        script = str(Path(__file__).with_name("nursery.py"))
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

    def run(self, output, *overrides, **order):
        self.begin(output, *overrides, **order)
        return self.end()

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


class Left:
    """What a run left behind."""

    def __init__(self, output, *overrides, base=TINY):
        self.path = run_directory(compose_run([*base, *overrides, f"output={output}"]))

    def steps(self):
        found = self.path.glob("checkpoints/step_*")
        return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))

    def verify(self):
        """Check every visible checkpoint and return the newest one's step, 0 where there is none."""
        checkpoints = [verify(path, self.path / "buffer") for path in self.steps()]
        return checkpoints[-1].step if checkpoints else 0

    def log(self, name):
        return (self.path / name).read_text()

    def status(self):
        return json.loads(self.log("status.json"))

    def everything(self):
        """Return all that must be equal in equal runs."""
        newest = self.steps()[-1]
        _, parameters, variables = load_from_zip_file(newest / "model.zip", load_data=False)
        state = read_values(newest / "state.json", newest / "state.npz")
        for clock in ("seconds", "logs"):
            del state["session"][clock]
        flat = {name: self.log(name) for name in ("metrics.csv", "evaluation.csv")}
        flatten("state", state, flat)
        flatten("weights", [parameters, variables], flat)
        for segment in json.loads((newest / "manifest.json").read_text())["segments"]:
            with np.load(self.path / "buffer" / f"seg_{segment['low']}_{segment['high']}.npz") as file:
                for number in range(segment["low"], segment["high"]):
                    for name in file.files:
                        flat[f"transition {number} {name}"] = file[name][number - segment["low"]]
        return flat


def flatten(name, value, flat):
    if isinstance(value, dict):
        for key, item in value.items():
            flatten(f"{name}.{key}", item, flat)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            flatten(f"{name}.{index}", item, flat)
    else:
        flat[name] = value.detach().numpy() if torch.is_tensor(value) else value


def assert_same(mine, theirs):
    # Segments may begin earlier in one of them; both hold what the buffer does.
    common = mine.keys() & theirs.keys()
    assert all(name.startswith("transition") for name in mine.keys() ^ theirs.keys())
    assert sum(name.endswith("rewards") for name in common) >= 150
    for name in sorted(common):
        assert np.array_equal(mine[name], theirs[name]), name
