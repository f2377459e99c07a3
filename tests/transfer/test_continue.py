"""A transferred run goes on without its source, keeps its lineage, and waits for a source that others train."""

import json
import shutil
import threading
import time
from contextlib import closing

import pytest
from saved_runs import save_run
from tiny import interrupt_at
from tiny_runs import TINY, status

from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run, run_directory
from mtrl.rundir.lock import RunLock
from mtrl.rundir.models import read_lineage
from mtrl.start import run_one, run_with_source_and_baseline
from mtrl.transfer.start import source_success

OWN = (*TINY, "hardware.backend=native", "logging.progress=off")


def test_a_run_goes_on_without_its_source_and_without_its_status(tmp_path, monkeypatch, capsys):
    source = save_run(tmp_path / "theirs", "experiment=mt1")
    words = [
        *OWN,
        "experiment=mt1",
        "task=push-v3",
        f"transfer.source={source}",
        f"output={tmp_path / 'own'}",
    ]
    path = run_directory(compose_run(words))
    states = []

    def measured(*arguments):
        states.append(status(path)["state"])
        return source_success(*arguments)

    monkeypatch.setattr("mtrl.train.source_success", measured)
    interrupt_at(monkeypatch, [120])
    assert run_with_source_and_baseline(compose_run(words)) == 143
    assert f"begins from {source}: best, step 60" in capsys.readouterr().out
    lineage = read_lineage(path)
    assert (lineage["origins"], lineage["step"]) == ({"push-v3": "reach-v3"}, 60)

    shutil.move(source, tmp_path / "elsewhere")
    (path / "status.json").write_text("torn")
    assert run_with_source_and_baseline(compose_run(words)) == 0
    # The forgetting is measured before the run counts as finished: a finished one is not started again for it.
    assert states == ["running", "running"]
    assert read_lineage(path) == lineage
    assert status(path)["transfer"]["sha256"] == lineage["sha256"]
    assert status(path)["transfer"]["source_success"].keys() == {"before", "after"}

    assert run_with_source_and_baseline(compose_run(words)) == 0
    assert "this run is finished" in capsys.readouterr().out
    for new in ("seed=2", "algo.gamma=0.5", "fresh=true"):
        with pytest.raises(ConfigurationError, match="does not exist"):
            run_with_source_and_baseline(compose_run([*words, new]))
    assert status(path)["state"] == "finished"


def test_a_lock_that_waits_says_for_whom(tmp_path, capsys):
    held = RunLock(tmp_path / "run")
    threading.Timer(0.5, held.close).start()
    with closing(RunLock(tmp_path / "run", wait=True)) as lock:
        assert lock.waited
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("waiting for process ")
    assert str(tmp_path / "run") in line


def test_a_source_that_another_member_trains_is_waited_for_and_used(tmp_path, capsys):
    words = ["experiment=transfer/reach_to_push", f"output={tmp_path}"]
    source = 'transfer.train=["experiment=mt1","total_steps=60","evaluation.every=60"]'
    composition = compose_run([*OWN, *words, source])
    first = composition.source
    path = run_directory(first)
    held = RunLock(path)

    def another():
        time.sleep(0.5)
        save_run(tmp_path, *first.overrides, steps=60)
        facts = {"state": "finished", "step": 60, "total_steps": 60, "result": {"success_rate": 0.5}}
        (path / "status.json").write_text(json.dumps(facts))
        held.close()

    member = threading.Thread(target=another)
    member.start()
    try:
        assert run_one(first, wait=True) == 0
    finally:
        member.join()
    said = capsys.readouterr().out
    assert said.index("waiting for process") < said.index(
        "this run is finished: success 50.0% after 60 steps"
    )
    with closing(RunLock(path)), pytest.raises(ConfigurationError, match="is in use by process"):
        run_one(compose_run([*first.overrides, "total_steps=80"]))
