"""What the tests share: one thread everywhere, the command as a process, and small runs in this process."""

import os
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from tiny_runs import TINY, python

from mtrl.hardware import available_cores


def pytest_xdist_auto_num_workers() -> int:
    """Return one worker more than there are cores: many tests wait for processes of their own."""
    return available_cores() + 1


@pytest.fixture
def command(tmp_path):
    """Return a function that runs ``python -m mtrl`` with the words given, in an empty directory."""
    return partial(python, "-m", "mtrl", cwd=tmp_path, COLUMNS="200")


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
