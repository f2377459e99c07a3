"""Each trap of Meta-World, shown where Meta-World has it, and mended; goals and models are Meta-World's own."""

import pickle

import metaworld
import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from stable_baselines3 import SAC

from mtrl.env.metaworld import Schedule, goal_set, make_original, metaworld_task
from mtrl.tasks import GOALS, HELD_OUT_SEED, MT50

SOME = ["reach-v3", "peg-insert-side-v3", "assembly-v3", "drawer-open-v3"]


@pytest.fixture
def make(make):
    return lambda tasks=("reach-v3",), copies=1, **options: make("stock", tasks, copies, **options)


@pytest.fixture
def raw():
    """Meta-World's own class of reach-v3, on the first goal."""
    env = ALL_V3_ENVIRONMENTS["reach-v3"]()
    env.set_task(metaworld_task("reach-v3", goal_set("reach-v3", 0)[0]))
    env.reset()
    yield env
    env.close()


def test_the_numbers_are_metaworlds(make):
    """The same goal and actions in Meta-World's own environment give the same observations and rewards."""
    env = make(["push-v3"], seed=4, task_id=False)
    env.env_method("set_task", 0, 13)
    obs = env.reset()
    own = ALL_V3_ENVIRONMENTS["push-v3"](reward_function_version="v2")
    own.set_task(metaworld.MT1("push-v3", seed=4).train_tasks[13])
    own_obs, _ = own.reset()
    np.testing.assert_array_equal(obs[0], own_obs.astype(np.float32))
    for action in np.random.default_rng(0).uniform(-1, 1, (40, 1, 4)).astype(np.float32):
        obs, reward, _, infos = env.step(action)
        own_obs, own_reward, _, _, own_info = own.step(action[0])
        np.testing.assert_array_equal(obs[0], own_obs.astype(np.float32))
        assert reward[0] == np.float32(own_reward)
        assert infos[0]["success"] == bool(own_info["success"])
        assert 0 <= reward[0] <= 10
    own.close()


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


def test_metaworld_raises_past_500_steps_and_ignores_the_seed_of_reset(raw):
    """The environments here do neither: see test_contract.py."""
    raw.curr_path_length = 500
    with pytest.raises(ValueError, match="reset the env manually"):
        raw.step(np.zeros(4, np.float32))
    np.testing.assert_array_equal(raw.reset(seed=1)[0], raw.reset(seed=2)[0])


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


def test_goals_are_visible_and_the_observation_space_is_float32_and_has_no_false_bounds(make, raw):
    unset = ALL_V3_ENVIRONMENTS["reach-v3"]()
    bounds = unset.observation_space
    unset._freeze_rand_vec, unset._set_task_called = False, True
    assert not unset.reset()[0][36:39].any(), "Meta-World's raw class now shows its goal"
    assert (raw.reset()[0][36:39] > bounds.high[36:39]).any(), "Meta-World now declares the goal's bounds"
    env = make(["reach-v3"])
    assert env.observation_space.shape == (40,)
    obs = env.reset()
    assert obs[0, 36:39].all()
    assert env.observation_space.dtype == obs.dtype == np.float32
    assert np.isinf(env.observation_space.low).all()
    assert np.isinf(env.observation_space.high).all()
    assert make(["reach-v3"], task_id=False).observation_space.shape == (39,)


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


def metaworlds(task, seed):
    return np.array([pickle.loads(t.data)["rand_vec"] for t in metaworld.MT1(task, seed=seed).train_tasks])


@pytest.mark.parametrize(
    "task", [*SOME, *(pytest.param(t, marks=pytest.mark.slow) for t in MT50 if t not in SOME)]
)
def test_goals_are_those_of_metaworlds_benchmark(task):
    np.testing.assert_array_equal(goal_set(task, 7), metaworlds(task, 7))


def test_one_seed_gives_one_set_and_two_seeds_share_no_goal():
    first, other = goal_set("push-v3", 1), goal_set("push-v3", 2)
    goal_set.cache_clear()
    np.testing.assert_array_equal(goal_set("push-v3", 1), first)
    assert not set(map(tuple, first)) & set(map(tuple, other))
    assert not set(map(tuple, first)) & set(map(tuple, goal_set("push-v3", HELD_OUT_SEED)))


def test_making_goals_leaves_the_global_generator_alone_and_what_is_made_cannot_be_changed():
    np.random.seed(3)
    expected = np.random.random(4)
    np.random.seed(3)
    goal_set.cache_clear()
    goals = goal_set("reach-v3", 11)
    np.testing.assert_array_equal(np.random.random(4), expected)
    with pytest.raises(ValueError, match="read-only"):
        goals[0] = 0


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


def goals_of(schedule, count=200):
    return [schedule.next_episode()[1] for _ in range(count)]


def test_a_seed_fixes_the_order_of_goals_all_are_met_and_a_fixed_goal_stays_until_it_is_released():
    assert goals_of(Schedule(4, 0, 5)) == goals_of(Schedule(4, 0, 5)) != goals_of(Schedule(4, 0, 6))
    assert set(goals_of(Schedule(4, 0, 5), 1000)) == set(range(GOALS))
    schedule = Schedule(4, 0, 1)
    schedule.set_task(2, 7)
    assert [schedule.next_episode() for _ in range(3)] == [(2, 7)] * 3
    schedule.set_task(1)
    assert len(set(goals_of(schedule))) > 10
    assert schedule.next_episode()[0] == 1
