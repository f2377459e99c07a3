"""What the tests share: one thread everywhere, the command as a process, and small runs in this process."""

import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

REPOSITORY = Path(__file__).parent.parent

TINY = (
    "env.horizon=20",
    "env.copies_per_task=1",
    "total_steps=300",
    "algo.learning_starts=100",
    "algo.batch_size=150",
    "algo.buffer_size=1000",
    "variant.actor_layers=[16,16]",
    "variant.critic_layers=[16,16]",
    "evaluation.every=150",
    "evaluation.episodes=1",
    "evaluation.final_episodes=2",
    "logging.every=100",
    "logging.tensorboard=false",
    "hardware=cpu",
    "hardware.workers=1",
    "hardware.threads=1",
    "hardware.torch_threads=1",
)
"""Overrides that make any recipe a matter of seconds; 150 divides among 1, 2, 3, 10, 25 and 50 tasks."""


@pytest.fixture
def command(tmp_path):
    """Return a function that runs ``python -m mtrl`` with the words given, in an empty directory."""

    def run(*words, cwd=tmp_path, timeout=120, **variables):
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"} | variables
        return subprocess.run(
            [sys.executable, "-m", "mtrl", *words],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def train():
    """Return a function that runs one configuration in this process and returns its directory."""
    from mtrl.compose import compose_run
    from mtrl.identity import run_directory
    from mtrl.lifecycle import run_once

    def run(output, *overrides, tiny=TINY):
        composition = compose_run([*tiny, f"output={output}", *overrides])
        assert run_once(composition) == 0
        return run_directory(composition)

    return run
