"""Runs that die, and one that does not."""

import shutil

import pytest
from aftermath import Left, Nursery


@pytest.fixture(scope="session")
def nursery(tmp_path_factory):
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def whole(nursery, tmp_path_factory):
    """What the uninterrupted tiny run leaves."""
    output = tmp_path_factory.mktemp("whole")
    answer = nursery.run(output)
    assert answer["code"] == 0, answer["said"]
    return Left(output)


@pytest.fixture
def halfway(nursery, tmp_path_factory, tmp_path):
    """A run directory that a kill left with several checkpoints."""
    answer = nursery.run(tmp_path, call=["signal_self", [9, 190]])
    assert answer["code"] == -9
    left = Left(tmp_path)
    assert len(left.steps()) == 3
    return left


@pytest.fixture
def fresh_copy(tmp_path):
    def copy(path, name):
        return shutil.copytree(path, tmp_path / name)

    return copy
