"""Files that are written whole or wait, on a full disk and after a crash."""

import json
import resource
from contextlib import contextmanager

import pytest

from mtrl.rundir.write import CsvLog, new_directory, recover, write_json


def test_a_directory_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "checkpoint"
    with new_directory(target) as folder:
        (folder / "file").write_text("old")

    def fail():
        with new_directory(target) as folder:
            (folder / "file").write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (target / "file").read_text() == "old"
    # A crash between the two renames of a replacement.
    target.rename(tmp_path / ".old-checkpoint-0123")
    (tmp_path / ".tmp-unfinished").mkdir()
    recover(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    assert (target / "file").read_text() == "old"


@contextmanager
def files_end_at(size):
    """Let no file of this process grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_rows_without_room_wait_and_the_file_stays_whole_also_after_a_crash(tmp_path):
    path = tmp_path / "log.csv"
    log = CsvLog(path, ["step", "value"])
    log.append([{"step": 1, "value": 0.5}])
    states = [log.get_state()]
    with files_end_at(log.size + 2):
        for step in (2, 3, 4):
            log.append([{"step": step, "value": None}])
            states.append(log.get_state())
        with pytest.raises(OSError, match="too large"):
            log.write()
        assert log.waits
        assert path.read_text() == "step,value\n1,0.5\n"
        # Rows that wait can be taken back too.
        log.set_state(states[2])
    log.append([{"step": 5, "value": 1}])
    states.append(log.get_state())
    assert not log.waits
    assert path.read_text() == "step,value\n1,0.5\n2,\n3,\n5,1\n"
    assert log.size == path.stat().st_size
    # A continued log loses its torn line, and what a checkpoint does not know.
    with path.open("a") as file:
        file.write("6,0.")
    log = CsvLog(path, ["step", "value"])
    log.set_state(states[-1])
    assert path.read_text() == "step,value\n1,0.5\n2,\n3,\n5,1\n"
    log.set_state(states[1])
    assert path.read_text() == "step,value\n1,0.5\n2,\n"


def test_a_small_file_without_room_stays_as_it_was_with_nothing_beside_it(tmp_path):
    write_json(tmp_path / "status.json", {"step": 1})
    with files_end_at(4), pytest.raises(OSError, match="too large"):
        write_json(tmp_path / "status.json", {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]
    assert json.loads((tmp_path / "status.json").read_text()) == {"step": 1}
