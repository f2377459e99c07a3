"""A million transitions of MT10 fit, and take memory only as they come."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mtrl import hardware
from mtrl.algo.replay import TaskReplayBuffer
from mtrl.checks import replay_bytes
from mtrl.env.metaworld import action_space, observation_space
from mtrl.experiment import compose_run

MEBIBYTE = 2**20


# A process of its own, for what else lives in the one of the tests comes and goes meanwhile.
MEASURE = """
import json, os
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces

from mtrl.algo import TaskReplayBuffer


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


boxes = spaces.Box(-np.inf, np.inf, (49,), np.float32), spaces.Box(-1, 1, (4,), np.float32)
# What is loaded or allocated once, on first use, is not the buffer's.
TaskReplayBuffer(100, *boxes, device="cpu", n_envs=10, n_tasks=10)
before = resident()
buffer = TaskReplayBuffer(1_000_000, *boxes, device="cpu", n_envs=10, n_tasks=10)
allocated = resident() - before
obs, action = np.ones((10, 49), np.float32), np.ones((10, 4), np.float32)
infos = [{"task_id": task} for task in range(10)]
for _ in range(5_000):
    buffer.add(obs, obs, action, np.ones(10), np.zeros(10, bool), infos)
observations = buffer.sample(64).observations
sample = [str(observations.dtype), *observations.shape]
print(json.dumps({"allocated": allocated, "filled": resident() - before, "sample": sample}))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell resident memory")
def test_a_million_transitions_of_mt10_take_450_mb_and_only_as_they_come():
    answer = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    measured = json.loads(answer.stdout)
    assert measured["allocated"] < 40 * MEBIBYTE
    # A twentieth is held, 21 MB: about as much is taken, and not the whole.
    assert 10 * MEBIBYTE < measured["filled"] < 80 * MEBIBYTE
    assert measured["sample"] == ["torch.float32", 64, 49]
    assert hardware.replay_bytes(1_000_000, 49, 4, balanced=True) <= 450e6


@pytest.mark.parametrize(("recipe", "n_tasks", "task_id"), [("mt10", 10, True), ("mt3", 3, False)])
def test_what_the_check_of_free_memory_counts_is_what_the_buffer_takes(recipe, n_tasks, task_id):
    words = [f"experiment={recipe}", f"variant={'shared' if task_id else 'plain'}"]
    cfg = compose_run([*words, "algo.buffer_size=1000", "algo.batch_size=150"]).config
    spaces = observation_space(n_tasks, task_id), action_space()
    buffer = TaskReplayBuffer(1000, *spaces, device="cpu", n_tasks=n_tasks)
    held = sum(t.element_size() * t.nelement() for t in vars(buffer).values() if torch.is_tensor(t))
    assert held <= replay_bytes(cfg) <= held * 1.3
