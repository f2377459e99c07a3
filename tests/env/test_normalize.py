"""Normalisation leaves the one-hot alone, is saved with the model, and is used wherever the model acts."""

import json

import numpy as np
import pytest
import stepping
from stable_baselines3 import SAC as StableBaselinesSAC
from stable_baselines3.common.vec_env import VecNormalize

from mtrl.algo.sac import SAC
from mtrl.checkpoint.model import read_normaliser
from mtrl.env.normalize import Normaliser, TaskNormalize
from mtrl.evaluation.protocol import evaluate

TASKS = ["reach-v3", "push-v3"]


@pytest.fixture
def env(make):
    return make("stock", TASKS, 2, horizon=10, seed=1)


def play(env, steps=30, seed=0):
    return stepping.play(env, stepping.random_actions(steps, env.num_envs, seed))


def test_the_one_hot_passes_through_and_the_rest_is_stable_baselines3s(env, make):
    own = TaskNormalize(env, observations=True, reward=True, gamma=0.9)
    own.reset()
    steps = play(own)
    for obs, _, _, infos in steps:
        np.testing.assert_array_equal(obs[:, 39:], [[1, 0], [1, 0], [0, 1], [0, 1]])
        for info in infos:
            if "terminal_observation" in info:
                np.testing.assert_array_equal(info["terminal_observation"][39:], np.eye(2)[info["task_id"]])
    theirs = VecNormalize(make("stock", TASKS, 2, horizon=10, seed=1), gamma=0.9)
    theirs.reset()
    expected = play(theirs)
    for (obs, reward, _, _), (obs2, reward2, _, _) in zip(steps, expected, strict=True):
        np.testing.assert_array_equal(obs[:, :39], obs2[:, :39])
        np.testing.assert_array_equal(reward, reward2)
    assert not np.array_equal(expected[-1][0][:, 39:], steps[-1][0][:, 39:])


def test_each_half_can_be_had_without_the_other(env):
    rewards = TaskNormalize(env, observations=False, reward=True, gamma=0.99)
    np.testing.assert_array_equal(rewards.reset(), rewards.get_original_obs())
    obs, reward, *_ = play(rewards, 5)[-1]
    np.testing.assert_array_equal(obs, rewards.get_original_obs())
    assert not np.array_equal(reward, rewards.get_original_reward())
    observations = TaskNormalize(env, observations=True, reward=False, gamma=0.99)
    observations.reset()
    obs, reward, *_ = play(observations, 5)[-1]
    assert not np.array_equal(obs, observations.get_original_obs())
    np.testing.assert_array_equal(reward, observations.get_original_reward())


def test_saved_statistics_normalise_as_they_did_without_being_unpickled_and_continue(env, tmp_path):
    own = TaskNormalize(env, observations=True, reward=True, gamma=0.99)
    own.reset()
    play(own)
    own.save_statistics(tmp_path / "normaliser.npz")
    obs = own.get_original_obs()
    saved = Normaliser(read_normaliser(tmp_path / "normaliser.npz"))
    np.testing.assert_array_equal(saved(obs), own.normalize_obs(obs))
    assert np.load(tmp_path / "normaliser.npz", allow_pickle=False)
    state = own.statistics()
    states = env.env_method("get_state")
    expected = play(own, seed=5)
    for copy, copy_state in enumerate(states):
        env.env_method("set_state", copy_state, indices=[copy])
    other = TaskNormalize(env, observations=True, reward=True, gamma=0.99)
    other.restore(state)
    other.num_envs = env.num_envs
    for (obs, reward, *_), (obs2, reward2, *_) in zip(play(other, seed=5), expected, strict=True):
        np.testing.assert_array_equal(obs, obs2)
        np.testing.assert_array_equal(reward, reward2)


def test_the_evaluation_of_a_run_is_that_of_its_saved_model_with_its_saved_normaliser(train, tmp_path, make):
    words = ["experiment=mt3", "env.tasks=[reach-v3,push-v3]", "env.normalize_observations=true"]
    directory = train(tmp_path, *words, "env.normalize_reward=true", "evaluation.every=10000")
    newest = max(directory.glob("checkpoints/step_*"), key=lambda path: int(path.name.split("_")[1]))
    saved = Normaliser(read_normaliser(newest / "normaliser.npz"))
    model = SAC.load(newest / "model.zip", device="cpu")
    assert isinstance(model, StableBaselinesSAC)
    env = make("native", TASKS, 1, horizon=20, seed=1)
    again = evaluate(lambda obs: model.predict(saved(obs), deterministic=True)[0], env, TASKS, 2)
    without = evaluate(lambda obs: model.predict(obs, deterministic=True)[0], env, TASKS, 2)
    result = json.loads((directory / "status.json").read_text())["result"]
    assert result["mean_return"] == pytest.approx(again.mean_return, rel=1e-6)
    assert result["mean_return"] != pytest.approx(without.mean_return, rel=1e-3)
