"""Whatever happens to a file of a run: a sentence, an exact continuation or a refusal, and never a new start unsaid."""

import json
import logging
import os
import shutil
import time
import zipfile

import numpy as np
import pytest
import tiny
from forked_runs import run_files, run_here

import mtrl
from mtrl import status
from mtrl.errors import ConfigurationError, LoadError
from mtrl.rundir.checkpoints import verify
from mtrl.rundir.models import find_model
from mtrl.training.callbacks import RunCallbacks
from mtrl.training.resume import earlier_hardware

WORDS = ("env.normalize_observations=true", "evaluation.every=40")
NOT_NEEDED = ("environment.json", "run.log", "run.lock", "score.json")
"""What nobody needs to hear of: it is written anew, or of no use to a continuation."""


def empty(path):
    path.write_bytes(b"")


def truncated(path):
    os.truncate(path, path.stat().st_size * 2 // 3)


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def deleted(path):
    path.unlink()


def directory(path):
    path.unlink()
    path.mkdir()


def link(path):
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def sparse(path):
    os.truncate(path, 20 * 2**30)


DAMAGES = (empty, truncated, flipped, deleted, directory, link, sparse)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A run of 120 steps, and the same after 160."""
    output = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny.use_tiny_environment(monkeypatch)
        assert run_here(output / "run", *WORDS, "total_steps=120")[0] == 0
        _, run = run_here(output / "run", *WORDS, "total_steps=120")
        after = run.copied_to(output / "after")
        assert run_here(output / "after", *WORDS, "total_steps=160")[0] == 0
    return run, after.everything()


def files_of(run):
    return sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file())


def check(before, folder, name, damage, caplog, capsys):
    whole, after = before
    run, other = whole.copied_to(folder / "run"), whole.copied_to(folder / "other")
    damage(run.path / name)
    started = time.process_time()
    assert status.main([str(folder), "--json"]) == 0
    assert str(other.path.relative_to(folder)) in capsys.readouterr().out
    for checkpoint in ("best", "last"):
        try:
            policy = mtrl.load(run.path, checkpoint)
            assert (
                (policy.normalise is None) == (not (policy.model.parent / "normaliser.npz").exists()) is False
            )
            find_model(str(run.path), checkpoint=checkpoint)
        except (LoadError, ConfigurationError) as error:
            sentences = str(error).count("\n") + 1
            assert sentences == 1
    caplog.clear()
    try:
        code = run_here(folder / "run", *WORDS, "total_steps=160")[0]
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    except ConfigurationError as error:
        code, said = 2, str(error)
    assert time.process_time() - started < 10
    answer = (name, damage.__name__, code, said)
    assert code in (0, 2), answer
    # What lies behind the last checkpoint is forgotten without a word, be it gigabytes of nothing.
    forgotten = name.endswith(".csv") and damage is sparse
    # Version 0.1.0 wrote no manifest of its best model, and of older checkpoints only the manifests are read.
    forgotten = forgotten or (name, damage) == ("checkpoints/best/manifest.json", deleted)
    forgotten = forgotten or ("step_120" not in name and "step_" in name and "manifest" not in name)
    assert said or name.endswith(NOT_NEEDED) or forgotten, answer
    if code == 0:
        assert run.status()["starts"][-1]["step"] > 0, answer
        expected, found = dict(after), run.everything()
        for key in expected:
            # What was lost is lost: a row, or the score of the best model.
            lost = key in (name, "state.evaluation.log.size", "state.evaluation.log.rows")
            lost = lost or ("best" in name and key.startswith("state.evaluation.best"))
            assert lost or key.startswith("transition") or np.array_equal(found[key], expected[key]), (
                key,
                answer,
            )
    shutil.rmtree(folder)


SELECTION = [
    ("config.yaml", empty),
    ("status.json", directory),
    ("metrics.csv", flipped),
    ("evaluation.csv", sparse),
    ("timing.csv", link),
    ("checkpoints/best/model.zip", truncated),
    ("checkpoints/best/normaliser.npz", deleted),
    ("checkpoints/best/score.json", sparse),
    ("checkpoints/step_120/model.zip", sparse),
    ("checkpoints/step_120/state.json", directory),
    ("checkpoints/step_80/manifest.json", flipped),
]


@pytest.fixture(autouse=True)
def _tiny_environment(monkeypatch):
    tiny.use_tiny_environment(monkeypatch)


@pytest.mark.parametrize(("name", "damage"), SELECTION)
def test_a_damaged_file_is_said_and_the_run_goes_on_exactly_or_not_at_all(
    before, tmp_path, caplog, capsys, name, damage
):
    check(before, tmp_path / "one", name, damage, caplog, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_of_a_run_may_be_damaged(before, tmp_path, caplog, capsys, damage):
    names = files_of(before[0])
    assert len(names) > 25
    for number, name in enumerate(names):
        check(before, tmp_path / str(number), name, damage, caplog, capsys)


def moved(path):
    path.rename(path.with_name("elsewhere"))


def replaced(path):
    moved(path)
    path.mkdir()
    (path / "run.lock").write_text("")


def cut(path):
    (path / "metrics.csv").write_text("")


def without_a_log(path):
    (path / "evaluation.csv").unlink()


@pytest.mark.parametrize("change", [moved, replaced, shutil.rmtree, cut, without_a_log])
def test_a_run_whose_directory_is_moved_deleted_or_cut_ends_and_writes_nothing_more(
    before, tmp_path, monkeypatch, capsys, change
):
    monkeypatch.setattr(RunCallbacks, "_on_step", RunCallbacks._on_step)
    path = run_files(tmp_path, *WORDS).path
    tiny.at_step(90, lambda _: change(path))
    assert run_here(tmp_path, *WORDS, "total_steps=160")[0] == 75
    assert "while the run wrote to it" in capsys.readouterr().err
    if change in (cut, without_a_log):
        return
    left = {file.name for file in path.rglob("*")}
    assert left == ({"run.lock"} if change is replaced else set())
    monkeypatch.undo()
    tiny.use_tiny_environment(monkeypatch)
    if change is not shutil.rmtree:
        # Where it is now, the run can be continued.
        shutil.rmtree(path, ignore_errors=True)
        path.with_name("elsewhere").rename(path)
        code, run = run_here(tmp_path, *WORDS, "total_steps=160")
        assert (code, run.status()["starts"][-1]["step"]) == (0, 80)
        assert run.text("metrics.csv") == before[1]["metrics.csv"]


def test_checkpoints_stay_where_they_are_while_the_buffer_is_absent(before, tmp_path):
    run = before[0].copied_to(tmp_path / "run")
    names = files_of(run)
    (run.path / "buffer").rename(tmp_path / "buffer")
    with pytest.raises(ConfigurationError, match=r"seg_0_40\.npz is missing"):
        run_here(tmp_path / "run", *WORDS, "total_steps=160")
    (tmp_path / "buffer").rename(run.path / "buffer")
    assert files_of(run) == names
    assert run_here(tmp_path / "run", *WORDS, "total_steps=160")[0] == 0
    assert run.status()["starts"][-1]["step"] == 120


def test_hardware_choices_come_from_the_checkpoint_whatever_the_status_says(
    before, tmp_path, monkeypatch, caplog
):
    run = before[0].copied_to(tmp_path)
    (run.path / "status.json").write_text('{"hardware": {"backend": "native", "torch_threads": "x"}}')
    asked = []
    monkeypatch.setattr("mtrl.train.reuse_hardware", lambda cfg, there: asked.append(there) or cfg)
    assert run_here(tmp_path, *WORDS, "total_steps=160")[0] == 0
    assert (asked[0]["backend"], asked[0]["torch_threads"]) == ("stock", 1)


def test_what_version_0_1_0_computed_with_is_in_the_status_alone_and_its_absence_is_said(before, caplog):
    checkpoint, choices = verify(before[0].checkpoints[-1]), before[0].status()["hardware"]
    assert earlier_hardware(checkpoint, {}) == choices
    old = checkpoint._replace(hardware={})
    assert earlier_hardware(old, {"hardware": choices | {"threads": [1]}})["backend"] == "stock"
    assert caplog.text == ""
    assert earlier_hardware(old, {"hardware": {"backend": 3}}) == {}
    assert "status.json is damaged, which alone says what step_120 was computed with" in caplog.text


def test_gigabytes_of_nothing_are_no_model(before, tmp_path):
    content, model = (before[0].path / "checkpoints/best/model.zip").read_bytes(), tmp_path / "model.zip"
    with model.open("wb") as file:
        file.seek(20 * 2**30)
        file.write(content)
    with pytest.raises(ConfigurationError, match="compressed or empty"):
        find_model(str(model))
    with zipfile.ZipFile(model, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy.pth", bytes(2**25))
    with pytest.raises(ConfigurationError, match="compressed or empty"):
        find_model(str(model))


ODD = (
    "x",
    None,
    [1],
    {},
    10**400,
    -1,
    1.5,
    float("nan"),
    {"success_rate": "x", "stage": "x", "device": "cuda:x"},
)


@pytest.mark.parametrize("value", ODD, ids=lambda value: str(value)[:40])
def test_a_status_of_odd_values_is_continued_and_takes_no_table_away(before, tmp_path, capsys, value):
    run, whole = before[0].copied_to(tmp_path), before[0].status()
    for entries in (*({key: value} for key in whole), dict.fromkeys(whole, value) | {"state": "finished"}):
        (run.path / "status.json").write_text(json.dumps(whole | entries))
        assert status.main([str(tmp_path)]) == 0
    assert run_here(tmp_path, *WORDS, "total_steps=130")[0] == 0
    assert run.status()["starts"][-1]["step"] == 120


def test_what_is_written_follows_no_link(before, tmp_path):
    run = before[0].copied_to(tmp_path / "run")
    victim = tmp_path / "victim"
    for name in (
        "run.log",
        "metrics.csv",
        "evaluation.csv",
        "tensorboard",
        "checkpoints/.tmp-1",
        "config.yaml",
    ):
        victim.write_text("untouched")
        shutil.rmtree(run.path, ignore_errors=True)
        run = before[0].copied_to(tmp_path / "run")
        (run.path / name).unlink(missing_ok=True)
        (run.path / name).symlink_to(victim)
        with pytest.raises(ConfigurationError, match="is a link"):
            run_here(tmp_path / "run", *WORDS, "total_steps=160")
        assert victim.read_text() == "untouched"
