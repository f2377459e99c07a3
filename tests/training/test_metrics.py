"""What a run measures of its training episodes, and TensorBoard on a full disk."""

import errno
import json

import numpy as np
import pytest

from mtrl.errors import UnstableError
from mtrl.training.metrics import Episodes

GOOD, BROKEN_DOWN = {"task_id": 0, "is_success": True, "episode": {"r": 1.0, "l": 5}}, {"unstable": True}


def record(episodes, *infos):
    episodes.record(np.ones(len(infos), bool), infos)


def test_a_simulation_that_begins_to_break_down_late_ends_the_run():
    episodes = Episodes(["reach-v3"])
    record(episodes, *[GOOD] * 40_000, *[BROKEN_DOWN] * 50)
    episodes.check_stable()
    resumed = Episodes(["reach-v3"])
    resumed.set_state(json.loads(json.dumps(episodes.get_state())))
    for told in (episodes, resumed):
        record(told, BROKEN_DOWN)
        with pytest.raises(UnstableError, match="broke down in 51 of the latest 1000 episodes"):
            told.check_stable()
    record(episodes, *[GOOD] * 950)
    episodes.check_stable()
    assert episodes.row()["unstable"] == 51


def test_a_simulation_that_seldom_breaks_down_never_ends_the_run():
    episodes = Episodes(["reach-v3"])
    for _ in range(400):
        record(episodes, *[GOOD] * 24, BROKEN_DOWN)
        episodes.check_stable()


def test_episodes_of_a_checkpoint_from_before_the_window_are_continued():
    episodes = Episodes(["reach-v3"])
    record(episodes, *[GOOD] * 20, *[BROKEN_DOWN] * 3)
    state = episodes.get_state()
    del state["broken"]
    resumed = Episodes(["reach-v3"])
    resumed.set_state(state)
    assert resumed.row() == episodes.row()
    record(resumed, *[BROKEN_DOWN] * 11)
    with pytest.raises(UnstableError):
        resumed.check_stable()


def test_a_mirror_without_room_ends_neither_the_run_nor_its_logs(train, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
    words = ("task=reach-v3", "logging.tensorboard=true", "total_steps=200", "evaluation.every=1000")
    path = train(tmp_path, *words)
    assert caplog.text.count("TensorBoard gets nothing more") == 1
    assert (path / "metrics.csv").read_text().count("\n") == 3
