"""Many copies are cheap: models are shared, and a simulation's own memory is small."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import REPOSITORY

PER_COPY = """
import numpy as np
from mtrl.env.make import make_vec_env

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

copies = 101
env = make_vec_env(["peg-insert-side-v3"], copies, backend="native", threads=1)
# The task's model exists by now; a copy's simulation is made by the first reset.
before = resident()
env.reset()
generator = np.random.default_rng(0)
for _ in range(50):
    env.step(generator.uniform(-1, 1, (copies, 4)).astype(np.float32))
print((resident() - before) / copies)
"""

OFFICIAL_EVALUATION = """
import time
import numpy as np
from mtrl.env.make import make_vec_env
from mtrl.tasks import GOALS, MT10

started = time.perf_counter()
env = make_vec_env(MT10, GOALS, backend="native")
for i in range(env.num_envs):
    env.env_method("set_task", i // GOALS, i % GOALS, indices=[i])
env.reset()
seconds = time.perf_counter() - started
generator = np.random.default_rng(0)
for _ in range(20):
    env.step(generator.uniform(-1, 1, (env.num_envs, 4)).astype(np.float32))
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
print(seconds, peak)
"""


def run(code):
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell how much memory a process holds")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [float(value) for value in done.stdout.split()]


def test_a_further_copy_takes_less_than_3_mebibytes():
    (mebibytes,) = run(PER_COPY)
    assert 0 < mebibytes < 3


@pytest.mark.slow
def test_the_500_copies_of_the_official_evaluation_start_in_20_seconds_and_fit_in_2_gibibytes():
    seconds, mebibytes = run(OFFICIAL_EVALUATION)
    assert seconds < 20
    assert mebibytes < 2048
