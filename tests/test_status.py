import json
import subprocess
import sys

import numpy as np
import pytest
from run_directories import MT3, write_run
from tiny_runs import REPOSITORY

from mtrl.rundir.run import Run
from mtrl.status import count, duration, main, summary


def test_a_running_member_shows_success_speed_and_time_left(tmp_path):
    path = write_run(tmp_path, state="running", step=50_000, total_steps=200_000, goals=("train", "heldout"))
    run = Run(path)
    row = summary(run)
    newest = run.evaluation.take((run.evaluation["step"] == 50_000) & (run.evaluation["goals"] == "train"))
    assert len(newest) == len(MT3)
    assert row["success"] == pytest.approx(np.mean(newest["success_rate"]))
    assert row["steps_per_second"] == run.timing["steps_per_second"][-1]
    assert row["eta_seconds"] == pytest.approx(150_000 / row["steps_per_second"])
    assert row["state"] == "running"
    # Only a running member has time left, and none has success before its first evaluation.
    for state in ("finished", "failed", "interrupted"):
        assert summary(Run(write_run(tmp_path, state, state=state, step=50_000)))["eta_seconds"] is None
    row = summary(Run(write_run(tmp_path, "begun", state="running", step=1000)))
    assert (row["success"], row["steps_per_second"]) == (None, None)


def test_the_table_names_every_member_once_without_the_common_path_and_json_has_an_object_each(
    tmp_path, capsys
):
    for seed in (1, 2):
        write_run(tmp_path, "plain-00000000", seed)
    write_run(tmp_path, "wide-11111111", 1, state="failed", step=100_000)
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1].split()[:2] == ["plain-00000000/seed=1", "finished"]
    assert out[3].split()[:2] == ["wide-11111111/seed=1", "failed"]
    assert "100k / 200k (50%)" in out[3]
    assert out[-1] == "3 runs: 2 finished, 1 failed"
    assert str(tmp_path) not in "".join(out)
    assert main([str(tmp_path), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["step"] for row in rows] == [200_000, 200_000, 100_000]


def test_damage_is_reported_on_standard_error_and_the_rest_is_shown(tmp_path, capsys):
    good = write_run(tmp_path, "good-00000000")
    bad = write_run(tmp_path, "bad-00000000")
    (bad / "config.yaml").write_text("{")
    (good / "environment.json").unlink()
    assert main([str(tmp_path), str(tmp_path / "nothing")]) == 0
    captured = capsys.readouterr()
    assert "1 runs" in captured.out
    assert len(captured.err.splitlines()) == 3


@pytest.mark.parametrize("module", ["mtrl.status", "mtrl.report"])
def test_a_directory_without_runs_is_refused_with_one_sentence(tmp_path, module):
    command = [sys.executable, "-m", module, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{tmp_path} holds no run: a run directory has a config.yaml and a status.json\n"


def test_numbers_are_short_and_never_misleading():
    numbers = {0: "0", 950: "950", 999.6: "1k", 1000: "1k", 12_345: "12.3k", 999_600: "1M", 1_500_000: "1.5M"}
    assert [count(n) for n in (*numbers, 20_000_000)] == [*numbers.values(), "20M"]
    times = {40: "40s", 60: "1min", 3599: "1h 0min", 3660: "1h 1min", 100_000: "1d 4h"}
    assert [duration(seconds) for seconds in times] == list(times.values())
