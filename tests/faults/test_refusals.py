"""What cannot go on is refused in one sentence, with nothing touched."""

import json
import shutil
import signal
import time

import pytest
import tiny
from forked_runs import ForkedRun, forked, run_files
from tiny import TINY

from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run
from mtrl.start import run_one


def test_a_second_run_in_a_directory_is_refused_and_a_dead_holder_frees_it(tmp_path):
    left = run_files(tmp_path)
    holder = ForkedRun(tmp_path, fault=lambda: tiny.at_step(60, lambda _: time.sleep(60)))
    try:
        deadline = time.monotonic() + 30
        while not ((left.path / "status.json").exists() and left.status()["checkpoint"] == 40):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        host, before = json.loads(left.text("run.lock"))["host"], left.text("status.json")
        with pytest.raises(ConfigurationError, match=rf"in use by process {holder.pid} on {host}"):
            run_one(compose_run([*TINY, f"output={tmp_path}"]))
        assert left.text("status.json") == before
    finally:
        assert holder.end(0).code == -signal.SIGKILL
    forked(tmp_path)


def test_too_little_memory_is_refused_with_the_sum(tmp_path, monkeypatch):
    monkeypatch.setattr("mtrl.hardware.free_memory", lambda: 2**20)
    with pytest.raises(ConfigurationError, match=r"needs .* GiB for its replay buffer, and .* GiB are free"):
        compose_run([*TINY, "algo.buffer_size=1e6", f"output={tmp_path}"])
    assert not list(tmp_path.iterdir())


def test_checkpoints_that_were_removed_are_not_a_new_run(halfway):
    shutil.rmtree(halfway.path / "checkpoints")
    answer = forked(halfway.output, code=2)
    assert "are gone" in answer.printed
