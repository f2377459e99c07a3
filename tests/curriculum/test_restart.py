"""A curriculum goes on where a run was stopped, and can be advanced by hand."""

import csv
import errno
import json

from mtrl.training import callbacks as session
from mtrl.training.metrics import Metrics

STAGED = (
    "experiment=mt3",
    "hardware.backend=native",
    "env.horizon=10",
    "curriculum=sequential",
    "curriculum.min_steps=30",
    "curriculum.check_every=30",
    "curriculum.check_episodes=1",
    "algo.batch_size=60",
    "evaluation.every=1000",
    "logging.every=30",
)


def status(path):
    return json.loads((path / "status.json").read_text())


def stages(path):
    with (path / "metrics.csv").open() as file:
        return {int(row["step"]): int(row["stage"]) for row in csv.DictReader(file)}


def test_a_run_continued_is_the_run_in_one_go(train, tmp_path):
    # Stages of 120 steps: the first start ends in the middle of one.
    words = [*STAGED, "curriculum.steps=[120]", "curriculum.thresholds=[1]"]
    whole = train(tmp_path / "whole", *words, "total_steps=360")
    halves = train(tmp_path / "halves", *words, "total_steps=210")
    before = status(halves)["curriculum"]
    assert train(tmp_path / "halves", *words, "total_steps=360") == halves
    assert status(halves)["starts"][-1]["step"] == 210
    assert status(halves)["curriculum"] == status(whole)["curriculum"] != before
    assert stages(halves).items() >= stages(whole).items()
    assert newest_evaluation(halves) == newest_evaluation(whole)


def newest_evaluation(path):
    with (path / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["step"] == rows[-1]["step"]]


def test_a_stopped_run_is_advanced_by_hand(train, tmp_path):
    words = [*STAGED, "curriculum.thresholds=[1]"]
    path = train(tmp_path, *words, "total_steps=90")
    assert status(path)["curriculum"]["stage"] == 0
    assert "did not pass stage 0 of 2" in status(path)["curriculum"]["summary"]
    assert train(tmp_path, *words, "total_steps=180", "curriculum.start_stage=2") == path
    (transition,) = status(path)["curriculum"]["transitions"]
    assert (transition["ended"], transition["begun"], transition["step"]) == (0, 2, 90)
    assert "start_stage" in transition["why"]
    assert (path / "checkpoints" / "stage_0" / "model.zip").is_file()
    logged = stages(path)
    assert logged[90] == 0
    assert logged[120] == logged[180] == 2


def test_where_a_start_stage_leads_is_said(train, tmp_path, capsys, caplog):
    words = [*STAGED, "curriculum.thresholds=[1]"]
    path = train(tmp_path, *words, "total_steps=60")
    capsys.readouterr()
    train(tmp_path, *words, "total_steps=60", "curriculum.start_stage=2")
    said = capsys.readouterr().out
    advice = "with a larger total_steps, the run continues in stage 2 (curriculum.start_stage)"
    assert f"it ended in stage 0: {advice}" in said
    assert status(path)["curriculum"]["stage"] == 0
    train(tmp_path, *words, "total_steps=90", "curriculum.start_stage=2")
    train(tmp_path, *words, "total_steps=120", "curriculum.start_stage=1")
    assert "curriculum.start_stage=1 lies behind the present stage 2, which continues" in caplog.text
    assert status(path)["curriculum"]["stage"] == 2


def test_a_stage_is_drawn_where_it_began(train, tmp_path, monkeypatch):
    drawn = []
    original = Metrics.mirror

    def mirror(self, group, values, step):
        if group == "curriculum" and "stage" in values:
            drawn.append((step, values["stage"]))
        original(self, group, values, step)

    monkeypatch.setattr(Metrics, "mirror", mirror)
    path = train(tmp_path, *STAGED, "curriculum.steps=[60]", "curriculum.thresholds=[1]", "total_steps=180")
    transitions = status(path)["curriculum"]["transitions"]
    assert drawn == [(transition["step"], transition["begun"]) for transition in transitions]
    assert len(drawn) == 2


def test_a_disk_without_room_for_the_model_of_a_stage_is_told_and_training_goes_on(
    train, tmp_path, monkeypatch, caplog
):
    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(session, "save_model", full)
    path = train(tmp_path, *STAGED, "curriculum.steps=[60]", "curriculum.thresholds=[1]", "total_steps=90")
    assert status(path)["state"] == "finished"
    assert status(path)["curriculum"]["stage"] == 1
    assert "the model of the stage could not be saved" in caplog.text
