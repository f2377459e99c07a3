"""What ``mtrl.env`` promises of every backend: episodes, tasks, seeds, saved states, simulations that break down."""

import json
import logging
import pickle

import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecFrameStack
from stepping import assert_same_steps, play, random_actions

from mtrl.env.normalize import TaskNormalize
from mtrl.tasks import MT10

TASKS = ["reach-v3", "drawer-close-v3", "push-v3"]


@pytest.fixture(params=["stock", "native"])
def backend(request):
    return request.param


@pytest.fixture
def make(make, backend):
    return lambda tasks=TASKS, copies=1, **options: make(backend, tasks, copies, **options)


def test_the_time_limit_is_a_truncation_with_the_last_observation_of_the_episode(make):
    env = make(copies=[2, 1, 0], horizon=6)
    env.reset()
    actions = random_actions(6, 3)
    steps = play(env, actions[:5])
    for _, _, done, infos in steps:
        assert not done.any()
        assert not any("terminal_observation" in info or "episode" in info for info in infos)
    before = steps[-1][0]
    obs, _, done, infos = env.step(actions[5])
    assert done.all()
    for copy, info in enumerate(infos):
        assert info["TimeLimit.truncated"] is True
        assert info["episode"]["l"] == 6
        # One step on from the observation before, where the new episode's first observation is a leap away.
        last = info["terminal_observation"]
        assert np.abs(last[:3] - before[copy, :3]).max() < 0.05
        assert not np.array_equal(last, obs[copy])


def test_episodes_of_500_steps_follow_each_other(make):
    env = make(["reach-v3"])
    env.reset()
    steps = play(env, np.zeros((1001, 1, 4), np.float32))
    assert [i for i, (_, _, done, _) in enumerate(steps) if done[0]] == [499, 999]


def test_a_seed_decides_the_goals_of_each_copy_from_the_next_reset_on(make):
    def goals(env, resets=8):
        return [[info["goal"] for info in env.reset_infos] for _ in range(resets) if env.reset() is not None]

    one, other = make(["reach-v3"], 2, seed=5), make(["reach-v3"], 2, seed=5)
    first = goals(one)
    assert goals(other) == first
    assert [g for g, _ in first] != [g for _, g in first], "copies of one environment play the same goals"
    one.seed(5)
    assert goals(one) == first
    one.seed(6)
    # Copy i is seeded with s + i, so copy 0 now plays what copy 1 played.
    assert [g for g, _ in goals(one)] == [g for _, g in first]


def test_seed_0_is_a_seed_and_the_global_generator_decides_nothing(make):
    one, other = make(["reach-v3"], seed=0), make(["reach-v3"], seed=0)
    np.random.seed(0)
    first = one.reset()
    np.random.seed(1)
    np.testing.assert_array_equal(other.reset(), first)
    assert not np.array_equal(one.reset(), make(["reach-v3"], seed=1).reset())


def test_the_one_hot_is_the_place_in_the_task_set(make):
    obs = make(["push-v3", "reach-v3", "door-open-v3"], [1, 2, 1]).reset()
    np.testing.assert_array_equal(obs[:, 39:], np.eye(3)[[0, 1, 1, 2]])


def test_success_sticks_until_the_episode_ends(make):
    """Reached and left again: Meta-World's own success is gone at the end, ``is_success`` is not."""
    env = make(["reach-v3"], horizon=150, seed=2)
    env.env_method("set_task", 0, 0)
    obs, now, ever = env.reset(), [], []
    for step in range(150):
        away = obs[0, 36:39] - obs[0, :3]
        there = away * 10 if step < 100 else -away * 10 + 0.5
        obs, _, done, infos = env.step(np.append(np.clip(there, -1, 1), 0).astype(np.float32)[None])
        now.append(infos[0]["success"])
        ever.append(infos[0]["is_success"])
    assert done[0]
    assert any(now)
    assert not now[-1]
    assert ever == list(np.maximum.accumulate(now))


def test_success_ends_an_episode_only_where_asked(make):
    lengths = {}
    for terminate in (False, True):
        env = make(["reach-v3"], horizon=80, seed=2, terminate_on_success=terminate)
        env.env_method("set_task", 0, 0)
        obs, done = env.reset(), [False]
        while not done[0]:
            action = np.append(np.clip((obs[0, 36:39] - obs[0, :3]) * 10, -1, 1), 0).astype(np.float32)[None]
            obs, _, done, infos = env.step(action)
        lengths[terminate] = infos[0]["episode"]["l"]
        assert infos[0]["is_success"]
        assert infos[0]["TimeLimit.truncated"] is not terminate
    assert lengths[True] < lengths[False] == 80


def test_set_task_waits_for_the_reset_of_that_copy(make):
    env = make(copies=[2, 0, 0], horizon=5)
    env.reset()
    env.env_method("set_task", 1, 4, indices=[1])
    steps = play(env, random_actions(5, 2))
    assert all(info["task_id"] == 0 for _, _, _, infos in steps for info in infos)
    obs, _, _, infos = steps[-1]
    np.testing.assert_array_equal(infos[1]["terminal_observation"][39:], [1, 0, 0])
    np.testing.assert_array_equal(obs[:, 39:], [[1, 0, 0], [0, 1, 0]])
    assert env.reset_infos[1] == {"task_id": 1, "goal": 4}


MORE = ["assembly", "basketball", "hammer", "stick-pull", "bin-picking", "box-close", "plate-slide-back"]
MORE = [f"{name}-v3" for name in MORE]


@pytest.mark.parametrize("task", ["drawer-open-v3", "peg-insert-side-v3", *MORE[:2]])
def test_the_state_after_a_reset_depends_on_the_goal_alone(make, task):
    """Whatever was played before, so that a copy can be put on another goal or task at any time."""
    env = make([task, "reach-v3"], [1, 0], horizon=60)
    env.env_method("set_task", 0, 8)
    fresh = env.reset()
    state = env.env_method("get_state")[0]
    for task_id, goal, steps in ((0, 21, 30), (1, None, 10)):
        env.env_method("set_task", task_id, goal)
        env.reset()
        play(env, random_actions(steps, 1))
    env.env_method("set_task", 0, 8)
    np.testing.assert_array_equal(env.reset(), fresh)
    again = env.env_method("get_state")[0]
    for name in {"physics", "body_pos", "site_pos"} & state.keys():
        np.testing.assert_array_equal(again[name], state[name], err_msg=name)


@pytest.mark.parametrize("task", [*MT10[1:], "door-lock-v3", *MORE])
def test_a_saved_state_continues_exactly_in_another_environment(make, task):
    env, other, fresh = (make([task], horizon=30, seed=6) for _ in range(3))
    env.reset()
    play(env, random_actions(17, 1, seed=1))
    state = env.env_method("get_state")[0]
    # JSON has no arrays: they travel beside it.
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    attributes = {"attributes": state["attributes"]} if "attributes" in state else {}
    plain = {key: value for key, value in state.items() if key not in arrays | attributes}
    state = json.loads(json.dumps(plain)) | pickle.loads(pickle.dumps(arrays | attributes))
    actions = random_actions(25, 1, seed=2)
    expected = play(env, actions)
    # One is in the middle of another episode, of another goal; the other was never reset.
    other.env_method("set_task", 0, 31)
    other.reset()
    play(other, random_actions(9, 1, seed=3))
    for continuing in (other, fresh):
        continuing.env_method("set_state", state)
        assert_same_steps(play(continuing, actions), expected)


def test_a_saved_state_passes_through_the_wrappers_and_over_a_change_of_task(make):
    def wrapped():
        venv = make(TASKS, horizon=20, seed=6)
        env = VecFrameStack(TaskNormalize(venv, observations=True, reward=True, gamma=0.99), 1)
        env.reset()
        return env

    env, other = wrapped(), wrapped()
    play(env, random_actions(7, 3))
    env.env_method("set_task", 2, indices=[0])
    for copy, state in enumerate(env.env_method("get_state")):
        other.env_method("set_state", state, indices=[copy])
    other.venv.restore(env.venv.statistics())
    actions = random_actions(30, 3, seed=2)
    assert_same_steps(play(other, actions), play(env, actions))


@pytest.mark.parametrize(("field", "value"), [("qvel", 1e12), ("qpos", np.nan)])
def test_an_unstable_simulation_ends_the_episode_of_its_copy_alone(
    make, backend, tmp_path, monkeypatch, caplog, field, value
):
    # MuJoCo writes a log file into the working directory.
    monkeypatch.chdir(tmp_path)
    env, sound = make(seed=3), make(seed=3)
    for each in (env, sound):
        each.reset()
        last, *_ = play(each, random_actions(10, 3))[-1]
    simulation = env.envs[1].simulation()[1] if backend == "stock" else env._simulations[1].data
    getattr(simulation, field)[:] = value
    actions = random_actions(21, 3, seed=4)
    with caplog.at_level(logging.WARNING):
        (obs, reward, done, infos), (expected, *_) = env.step(actions[0]), sound.step(actions[0])
    assert "copy 1 (drawer-close-v3) became unstable, so its episode is cut short: if that" in caplog.text
    np.testing.assert_array_equal(done, [False, True, False])
    assert infos[1]["unstable"]
    assert infos[1]["TimeLimit.truncated"]
    assert infos[1]["episode"]["l"] == 10
    assert reward[1] == 0
    np.testing.assert_array_equal(infos[1]["terminal_observation"], last[1])
    assert np.isfinite(obs).all()
    np.testing.assert_array_equal(obs[[0, 2]], expected[[0, 2]])
    # What begins now is a sound episode, equal to one that no fault went before.
    sound.env_method("set_task", 1, env.reset_infos[1]["goal"], indices=[1])
    np.testing.assert_array_equal(obs[1], sound.reset()[1])
    for action in actions[1:]:
        (obs, reward, _, infos), (expected, expected_reward, *_) = env.step(action), sound.step(action)
        np.testing.assert_array_equal(obs[1], expected[1])
        assert reward[1] == expected_reward[1]
        assert "unstable" not in infos[1]
