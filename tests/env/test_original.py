"""An environment whose model is a copy is Meta-World's, and its own."""

import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from mtrl.env.metaworld import goal_set, make_original, metaworld_task


@pytest.mark.parametrize("task", ["reach-v3", "assembly-v3", "window-open-v3"])
def test_a_copied_model_is_byte_for_byte_the_one_that_metaworld_reads(task, tmp_path):
    make_original(task)
    ours, theirs = make_original(task), ALL_V3_ENVIRONMENTS[task]()
    models = []
    for env in (ours, theirs):
        mujoco.mj_saveModel(env.model, str(tmp_path / "model.mjb"))
        models.append((tmp_path / "model.mjb").read_bytes())
    assert models[0] == models[1]
    assert isinstance(ours, ALL_V3_ENVIRONMENTS[task])


def test_what_one_environment_moves_stays_in_the_others():
    one, other = make_original("push-v3"), make_original("push-v3")
    goals = goal_set("push-v3", 1)
    for env, goal in ((one, goals[0]), (other, goals[1])):
        env.set_task(metaworld_task("push-v3", goal))
        env.reset()
    kept = other.model.body_pos.copy(), other.model.site_pos.copy()
    one.model.body_pos[:] += 1.0
    one.model.site_pos[:] += 1.0
    np.testing.assert_array_equal(other.model.body_pos, kept[0])
    np.testing.assert_array_equal(other.model.site_pos, kept[1])
    fresh = make_original("push-v3")
    assert fresh.model.body_pos.tobytes() == ALL_V3_ENVIRONMENTS["push-v3"]().model.body_pos.tobytes()


def test_the_reward_version_is_passed_on():
    assert [make_original("reach-v3", reward).reward_function_version for reward in ("v1", "v2")] == [
        "v1",
        "v2",
    ]
