"""Each trap of Meta-World, shown where Meta-World has it, and mended by the stock environments."""

import pickle

import metaworld
import numpy as np
import pytest
import torch
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import VecFrameStack

from mtrl.env.make import make_vec_env
from mtrl.env.metaworld import goal_set, metaworld_task
from mtrl.env.normalize import TaskNormalize
from mtrl.errors import NotFiniteError
from mtrl.tasks import HELD_OUT_SEED

TASKS = ["reach-v3", "drawer-close-v3", "push-v3"]
UNTRIED = [
    "assembly-v3",
    "basketball-v3",
    "hammer-v3",
    "stick-pull-v3",
    "box-close-v3",
    "plate-slide-back-v3",
]


@pytest.fixture
def make():
    made = []

    def make_stock(tasks=TASKS, copies=1, **options):
        made.append(make_vec_env(tasks, copies, backend="stock", workers=1, **options))
        return made[-1]

    yield make_stock
    for env in made:
        env.close()


@pytest.fixture(autouse=True)
def one_torch_thread():
    torch.set_num_threads(1)


def random_actions(steps, n_envs, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, n_envs, 4)).astype(np.float32)


def play(env, actions):
    return [env.step(action) for action in actions]


def assert_same_steps(one, other):
    for (obs, reward, done, infos), (obs2, reward2, done2, infos2) in zip(one, other, strict=True):
        np.testing.assert_array_equal(obs, obs2)
        np.testing.assert_array_equal(reward, reward2)
        np.testing.assert_array_equal(done, done2)
        for info, info2 in zip(infos, infos2, strict=True):
            assert (info["task_id"], info["success"], info["is_success"]) == (
                info2["task_id"],
                info2["success"],
                info2["is_success"],
            )
            assert info.get("goal") == info2.get("goal")
            if "episode" in info:
                assert info["episode"]["r"] == info2["episode"]["r"]
                assert info["episode"]["l"] == info2["episode"]["l"]


def test_the_numbers_are_metaworlds(make):
    """The same goal and actions in Meta-World's own environment give the same observations and rewards."""
    env = make(["push-v3"], seed=4, task_id=False)
    env.env_method("set_task", 0, 13)
    obs = env.reset()
    own = ALL_V3_ENVIRONMENTS["push-v3"](reward_function_version="v2")
    own.set_task(metaworld.MT1("push-v3", seed=4).train_tasks[13])
    own_obs, _ = own.reset()
    np.testing.assert_array_equal(obs[0], own_obs.astype(np.float32))
    for action in random_actions(40, 1):
        obs, reward, _, infos = env.step(action)
        own_obs, own_reward, _, _, own_info = own.step(action[0])
        np.testing.assert_array_equal(obs[0], own_obs.astype(np.float32))
        assert reward[0] == np.float32(own_reward)
        assert infos[0]["success"] == bool(own_info["success"])
    own.close()


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


def test_stable_baselines3_bootstraps_at_the_time_limit(make):
    """What counts for the target is ``done`` in the replay buffer, which has to be 0 at a truncation."""
    env = make(["reach-v3"], 2, horizon=5)
    model = SAC(
        "MlpPolicy", env, buffer_size=100, learning_starts=1000, policy_kwargs={"net_arch": [8]}, seed=0
    )
    model.learn(20)
    buffer = model.replay_buffer
    np.testing.assert_array_equal(np.flatnonzero(buffer.timeouts[:10, 0]), [4, 9])
    np.testing.assert_array_equal(buffer.dones[:10], buffer.timeouts[:10])
    samples = buffer._get_samples(np.arange(10))
    assert not samples.dones.any()
    # The successor of an episode's last state is that episode's, not the next one's first state.
    goals, next_goals = buffer.observations[:10, 0, 36:39], buffer.next_observations[:10, 0, 36:39]
    np.testing.assert_array_equal(next_goals, goals)
    assert not np.array_equal(goals[4], goals[5])


def test_stepping_past_500_raises_in_metaworld_and_not_here(make):
    own = ALL_V3_ENVIRONMENTS["reach-v3"]()
    own.set_task(metaworld_task("reach-v3", goal_set("reach-v3", 0)[0]))
    own.reset()
    own.curr_path_length = 500
    with pytest.raises(ValueError, match="reset the env manually"):
        own.step(np.zeros(4, np.float32))
    own.close()
    env = make(["reach-v3"])
    env.reset()
    ends = [
        step for step, (_, _, done, _) in enumerate(play(env, np.zeros((1001, 1, 4), np.float32))) if done[0]
    ]
    assert ends == [499, 999]
    with pytest.raises(ValueError, match="horizon=501"):
        make(["reach-v3"], horizon=501)


def test_metaworld_ignores_the_seed_of_reset_and_the_copies_do_not(make):
    own = ALL_V3_ENVIRONMENTS["reach-v3"]()
    own.set_task(metaworld_task("reach-v3", goal_set("reach-v3", 0)[0]))
    np.testing.assert_array_equal(own.reset(seed=1)[0], own.reset(seed=2)[0])
    own.close()

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


def test_the_global_generator_decides_nothing(make):
    env = make(seed=1)
    np.random.seed(0)
    first = env.reset()
    np.random.seed(1)
    np.testing.assert_array_equal(make(seed=1).reset(), first)


def test_seed_0_is_a_seed(make):
    one, other = make(["reach-v3"], seed=0), make(["reach-v3"], seed=0)
    np.testing.assert_array_equal(one.reset(), other.reset())
    assert not np.array_equal(one.reset(), make(["reach-v3"], seed=1).reset())


def test_every_copy_plays_the_goals_of_the_run_and_held_out_ones_only_where_asked(make):
    def positions(env, goal):
        env.env_method("set_task", 0, goal)
        return env.reset()[:, 36:39]

    train, heldout = make(["reach-v3"], 2, seed=3), make(["reach-v3"], seed=3, goals="heldout")
    for goal in (0, 17, 49):
        # The goal of reach is the last three entries of its random vector.
        expected = goal_set("reach-v3", 3)[goal][-3:].astype(np.float32)
        np.testing.assert_array_equal(positions(train, goal), [expected, expected])
        unseen = goal_set("reach-v3", HELD_OUT_SEED)[goal][-3:].astype(np.float32)
        np.testing.assert_array_equal(positions(heldout, goal), [unseen])


def test_goals_are_visible_which_they_are_not_in_a_raw_class(make):
    raw = ALL_V3_ENVIRONMENTS["reach-v3"]()
    raw._freeze_rand_vec, raw._set_task_called = False, True
    assert not raw.reset()[0][36:39].any()
    raw.close()
    assert make(["reach-v3"]).reset()[0, 36:39].all()


def test_the_observation_space_is_float32_and_has_no_false_bounds(make):
    own = ALL_V3_ENVIRONMENTS["reach-v3"]()
    own.set_task(metaworld_task("reach-v3", goal_set("reach-v3", 0)[0]))
    goal = own.reset()[0][36:39]
    bounds = ALL_V3_ENVIRONMENTS["reach-v3"]().observation_space
    assert (goal > bounds.high[36:39]).any(), "Meta-World now declares the goal's bounds"
    own.close()
    env = make(["reach-v3"])
    assert env.observation_space.shape == (40,)
    assert env.observation_space.dtype == env.reset().dtype == np.float32
    assert np.isinf(env.observation_space.low).all()
    assert np.isinf(env.observation_space.high).all()
    assert make(["reach-v3"], task_id=False).observation_space.shape == (39,)


def test_the_one_hot_is_the_place_in_the_task_set(make):
    obs = make(["push-v3", "reach-v3", "door-open-v3"], [1, 2, 1]).reset()
    np.testing.assert_array_equal(obs[:, 39:], np.eye(3)[[0, 1, 1, 2]])


def test_success_sticks_until_the_episode_ends(make):
    """Reached and left again: Meta-World's own success is gone at the end, ``is_success`` is not."""
    env = make(["reach-v3"], horizon=150, seed=2)
    env.env_method("set_task", 0, 0)
    goal = env.reset()[0, 36:39]
    hand, now, ever = env.reset()[0, :3], [], []
    for step in range(150):
        there = (goal - hand) * 10 if step < 100 else (hand - goal) * 10 + 0.5
        action = np.append(np.clip(there, -1, 1), 0).astype(np.float32)[None]
        obs, _, done, infos = env.step(action)
        hand = obs[0, :3]
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


@pytest.mark.parametrize("task", ["push-v3", "assembly-v3"])
def test_the_reward_is_the_version_asked_for(make, task):
    """Meta-World pays v1 for any version that it does not know, and for "v3", the version of its tasks."""
    action = np.array([[0.5, 0.5, -0.5, 0.1]], np.float32)

    def paid(version):
        own = ALL_V3_ENVIRONMENTS[task](reward_function_version=version)
        own.set_task(metaworld_task(task, goal_set(task, 0)[3]))
        own.reset()
        reward = own.step(action[0])[1]
        own.close()
        return reward

    own = {version: paid(version) for version in ("v1", "v2")}
    assert own["v1"] != own["v2"]
    if task == "push-v3":
        assert paid("v3") == own["v1"]
    for version in ("v1", "v2"):
        env = make([task], reward=version)
        env.env_method("set_task", 0, 3)
        env.reset()
        np.testing.assert_allclose(env.step(action)[1][0], own[version], rtol=1e-6)
    with pytest.raises(ValueError, match="silently train on v1"):
        make([task], reward="v3")


@pytest.mark.parametrize("task", ["drawer-open-v3", "peg-insert-side-v3", *UNTRIED[:2]])
def test_the_state_after_a_reset_depends_on_the_goal_alone(make, task):
    """Whatever was played before, so that a copy can be put on another goal or task at any time."""
    env = make([task, "reach-v3"], [1, 0], horizon=60)
    env.env_method("set_task", 0, 8)
    fresh = env.reset()
    state = env.env_method("get_state")[0]
    env.env_method("set_task", 0, 21)
    env.reset()
    play(env, random_actions(30, 1))
    env.env_method("set_task", 1)
    env.reset()
    play(env, random_actions(10, 1))
    env.env_method("set_task", 0, 8)
    np.testing.assert_array_equal(env.reset(), fresh)
    again = env.env_method("get_state")[0]
    for name in ("physics", "body_pos", "site_pos"):
        np.testing.assert_array_equal(again[name], state[name], err_msg=name)


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
    with pytest.raises(ValueError, match="task 3 is not in the set of 3"):
        env.env_method("set_task", 3)


@pytest.mark.parametrize(
    "task", [*TASKS[1:], *UNTRIED, pytest.param("peg-insert-side-v3"), pytest.param("door-lock-v3")]
)
def test_a_saved_state_continues_exactly_in_another_environment(make, task):
    env, other = make([task], horizon=30, seed=6), make([task], horizon=30, seed=6)
    env.reset()
    play(env, random_actions(17, 1, seed=1))
    state = pickle.loads(pickle.dumps(env.env_method("get_state")[0]))
    actions = random_actions(25, 1, seed=2)
    expected = play(env, actions)
    # The other one is in the middle of another episode, of another goal.
    other.env_method("set_task", 0, 31)
    other.reset()
    play(other, random_actions(9, 1, seed=3))
    other.env_method("set_state", state)
    assert_same_steps(play(other, actions), expected)


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
def test_an_unstable_simulation_truncates_with_the_last_good_observation(
    make, tmp_path, monkeypatch, field, value
):
    # MuJoCo writes a log file into the working directory.
    monkeypatch.chdir(tmp_path)
    env = make(seed=3)
    env.reset()
    play(env, random_actions(9, 3))
    last, *_ = env.step(random_actions(1, 3)[0])
    own = env.get_attr("unwrapped", indices=[1])[0]._envs[1]
    getattr(own.data, field)[:] = value
    obs, reward, done, infos = env.step(random_actions(1, 3)[0])
    np.testing.assert_array_equal(done, [False, True, False])
    assert infos[1]["unstable"]
    assert infos[1]["TimeLimit.truncated"]
    assert infos[1]["episode"]["l"] == 10
    assert reward[1] == 0
    np.testing.assert_array_equal(infos[1]["terminal_observation"], last[1])
    assert np.isfinite(obs).all()
    # The next episode is a sound one, to its end.
    env.env_method("set_task", 1, 5, indices=[1])
    sound = make(seed=3)
    sound.env_method("set_task", 1, 5, indices=[1])
    np.testing.assert_array_equal(env.reset()[1], sound.reset()[1])
    for action in random_actions(10, 3, seed=4):
        (obs, _, _, infos), (expected, *_) = env.step(action), sound.step(action)
        np.testing.assert_array_equal(obs[1], expected[1])
        assert "unstable" not in infos[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_no_number_reaches_no_simulation(make, bad):
    env = make(["reach-v3"])
    env.reset()
    physics = env.env_method("get_state")[0]["physics"]
    action = np.zeros((1, 4), np.float32)
    action[0, 2] = bad
    with pytest.raises(NotFiniteError, match=r"copy 0 \(reach-v3\) is not finite"):
        env.step(action)
    np.testing.assert_array_equal(env.env_method("get_state")[0]["physics"], physics)


def test_v2_rewards_stay_within_0_and_10(make):
    env = make(["reach-v3"])
    env.reset()
    rewards = [reward[0] for _, reward, _, _ in play(env, random_actions(60, 1))]
    assert min(rewards) >= 0
    assert max(rewards) <= 10


@pytest.mark.parametrize(
    ("copies", "sentence"), [([1, 2], "must give each of 3"), ([0, 0, 0], "a count"), (-1, "a count")]
)
def test_impossible_numbers_of_copies_are_refused(copies, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_vec_env(TASKS, copies)
