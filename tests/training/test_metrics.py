"""What a run measures of its training episodes."""

import json

import numpy as np
import pytest

from mtrl.errors import UnstableError
from mtrl.training.metrics import Episodes

GOOD, BROKEN_DOWN = {"task_id": 0, "is_success": True, "episode": {"r": 1.0, "l": 5}}, {"unstable": True}


def record(episodes, *infos):
    episodes.record(np.ones(len(infos), bool), infos)


def test_a_simulation_that_begins_to_break_down_late_ends_the_run():
    episodes, resumed = Episodes(["reach-v3"]), Episodes(["reach-v3"])
    record(episodes, *[GOOD] * 40_000, *[BROKEN_DOWN] * 50)
    episodes.check_stable()
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
    episodes, resumed = Episodes(["reach-v3"]), Episodes(["reach-v3"])
    record(episodes, *[GOOD] * 20, *[BROKEN_DOWN] * 3)
    state = episodes.get_state()
    del state["broken"]
    resumed.set_state(state)
    assert resumed.row() == episodes.row()
    record(resumed, *[BROKEN_DOWN] * 11)
    with pytest.raises(UnstableError):
        resumed.check_stable()
