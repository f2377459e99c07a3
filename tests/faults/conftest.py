"""Runs that die, and one that does not."""

import pytest
import tiny
from forked_runs import forked, run_files


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The uninterrupted tiny run."""
    output = tmp_path_factory.mktemp("whole")
    forked(output)
    return run_files(output)


@pytest.fixture(scope="session")
def killed(tmp_path_factory):
    output = tmp_path_factory.mktemp("killed")
    forked(output, fault=lambda: tiny.signal_self(190, 9), code=-9)
    assert len(run_files(output).checkpoints) == 3
    return run_files(output)


@pytest.fixture
def halfway(killed, tmp_path):
    """A run directory that a kill left with three checkpoints."""
    return killed.copied_to(tmp_path)
