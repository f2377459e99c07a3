"""Where the project is, the overrides that make any of its recipes a matter of seconds, and what a run wrote."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from mtrl.config.values import key_of

REPOSITORY = Path(__file__).parents[2]

WORDS = (
    "env.horizon=20 evaluation.horizon=20 env.copies_per_task=1 total_steps=300 algo.learning_starts=100 "
    "algo.batch_size=150 algo.buffer_size=1000 variant.actor_layers=[16,16] variant.critic_layers=[16,16] "
    "evaluation.every=150 evaluation.episodes=1 evaluation.final_episodes=2 logging.every=100 "
    "logging.tensorboard=false hardware=cpu hardware.workers=1 hardware.threads=1 hardware.torch_threads=1"
)
TINY = WORDS.split()
"""Overrides that make any recipe a matter of seconds; 150 divides among 1, 2, 3, 10, 25 and 50 tasks."""


def without(words, others):
    """Return the overrides ``words`` but those of the keys that ``others`` set."""
    keys = set(map(key_of, others))
    return [word for word in words if key_of(word) not in keys]


def until(condition, seconds=60):
    """Wait for ``condition`` to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.05)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def status(run):
    return json.loads((run / "status.json").read_text())


def python(*words, cwd, timeout=300, **variables):
    """Return a Python process that has ended, which found this project's modules."""
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=timeout)
