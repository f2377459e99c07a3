"""Runs that die, and one that does not."""

import pytest
from forked_runs import RunServer, run_files


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = RunServer(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole(server, tmp_path_factory):
    """The uninterrupted tiny run."""
    output = tmp_path_factory.mktemp("whole")
    server.run(output)
    return run_files(output)


@pytest.fixture(scope="session")
def killed(server, tmp_path_factory):
    output = tmp_path_factory.mktemp("killed")
    server.run(output, call=["signal_self", [190, 9]], code=-9)
    assert len(run_files(output).checkpoints) == 3
    return run_files(output)


@pytest.fixture
def halfway(killed, tmp_path):
    """A run directory that a kill left with three checkpoints."""
    return killed.copied_to(tmp_path)
