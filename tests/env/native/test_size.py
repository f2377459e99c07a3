"""Many copies are cheap: models are shared, and a simulation's own memory is small."""

from pathlib import Path

import pytest
from tiny_runs import REPOSITORY, python

MEMORY = """
import time
import numpy as np
from mtrl.env.make import make_vec_env
from mtrl.tasks import GOALS, MT10

def mebibytes(what):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(what)) / 1024

def play(env, steps):
    env.reset()
    seconds, generator = time.perf_counter() - started, np.random.default_rng(0)
    for _ in range(steps):
        env.step(generator.uniform(-1, 1, (env.num_envs, 4)).astype(np.float32))
    return seconds

started = time.perf_counter()
"""

PER_COPY = """
env = make_vec_env(["peg-insert-side-v3"], 101, backend="native", threads=1)
# The task's model exists by now; a copy's simulation is made by the first reset.
before = mebibytes("VmRSS")
play(env, 50)
print((mebibytes("VmRSS") - before) / env.num_envs)
"""

OFFICIAL_EVALUATION = """
env = make_vec_env(MT10, GOALS, backend="native")
for i in range(env.num_envs):
    env.env_method("set_task", i // GOALS, i % GOALS, indices=[i])
print(play(env, 20), mebibytes("VmHWM"))
"""


def run(code):
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell how much memory a process holds")
    done = python("-c", MEMORY + code, cwd=REPOSITORY)
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
