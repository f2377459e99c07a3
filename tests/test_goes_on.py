"""What the same command does with a run that has ended: tell its result, go on, or refuse."""

import json

import pytest

from mtrl import make_vec_env
from mtrl.errors import ConfigurationError


def status_of(directory):
    return json.loads((directory / "status.json").read_text())


def test_a_run_that_success_ended_goes_on_when_more_success_is_asked_for(train, tmp_path):
    words = ("task=reach-v3", "total_steps=200", "evaluation.every=50")
    directory = train(tmp_path, *words, "stop.success=0")
    early = status_of(directory)
    assert early["state"] == "finished"
    assert early["step"] < 200

    train(tmp_path, *words, "stop.success=0")
    assert status_of(directory)["step"] == early["step"]

    train(tmp_path, *words, "stop.success=1")
    assert status_of(directory)["step"] == 200


def test_a_run_is_not_continued_in_environments_of_another_backend(train, tmp_path):
    words = ("task=reach-v3", "evaluation.every=1000")
    directory = train(tmp_path, *words, "total_steps=150", "hardware.backend=stock")
    before = (directory / "status.json").read_text()
    with pytest.raises(ConfigurationError, match=r"holds stock environments.*hardware\.backend=stock"):
        train(tmp_path, *words, "total_steps=300", "hardware.backend=native")
    assert (directory / "status.json").read_text() == before
    train(tmp_path, *words, "total_steps=300")
    assert status_of(directory)["step"] == 300


@pytest.mark.parametrize("words", [{"goals": "training"}, {"backend": "natvie"}])
def test_environments_refuse_words_they_do_not_know(words):
    with pytest.raises(ValueError, match="must be one of"):
        make_vec_env(["reach-v3"], **words)
