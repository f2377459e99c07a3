"""What the tests share: one thread everywhere, the command as a process, and small runs in this process."""

import os
import subprocess
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from tiny_runs import REPOSITORY, TINY

from mtrl.hardware import available_cores


def pytest_xdist_auto_num_workers() -> int:
    """Return one worker more than there are cores: many tests wait for processes of their own."""
    return available_cores() + 1


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
    from mtrl.experiment import compose_run, run_directory
    from mtrl.start import run_one

    def run(output, *overrides, tiny=TINY):
        composition = compose_run([*tiny, f"output={output}", *overrides])
        assert run_one(composition) == 0
        return run_directory(composition)

    return run
