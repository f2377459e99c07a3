"""The native environments give Meta-World's numbers."""

import metaworld_reference as reference
import mujoco
import numpy as np
import pytest

from mtrl.tasks import GOALS, MT10, MT50

POLICIES = (reference.uniform, reference.expert, reference.extreme, reference.expert_in_double)
SEEDS = (0, 7)


def assert_episodes_agree(task, seed, goals, policies, steps=500, reward_version="v2"):
    """Hold episodes of one task to Meta-World's; return for each whether the expert solved it."""
    stock = reference.metaworld_env(task, reward_version)
    # One step longer than the episodes, so that the last one can still be looked at before the reset.
    native = reference.native_env([task], seed=seed, horizon=steps + 1, reward=reward_version)
    # The same steps where the horizon ends the episode: what its last step returns.
    ending = reference.native_env([task], seed=seed, horizon=steps, reward=reward_version)
    simulation = None
    solved = []
    for goal in goals:
        for policy in policies:
            observation = reference.reset_to(stock, task, seed, goal)
            native.env_method("set_task", 0, goal)
            first = native.reset()[0]
            np.testing.assert_array_equal(first[:39], observation.astype(np.float32))
            ending.env_method("set_task", 0, goal)
            np.testing.assert_array_equal(ending.reset()[0], first)
            simulation = native._simulations[0].data
            np.testing.assert_array_equal(simulation.qpos, stock.data.qpos)
            successes = []
            for step in reference.play(stock, observation, policy(task, 100 * seed + goal), steps):
                obs, reward, done, infos = native.step(step.action[None])
                where = f"{task}, goal {goal} of seed {seed}, {policy.__name__}, step {len(successes)}"
                assert np.array_equal(simulation.qpos, step.qpos), where
                assert np.array_equal(simulation.qvel, step.qvel), where
                copy = native._copies[0]
                assert np.abs(copy["observation"] - step.observation).max() <= 1e-12, where
                assert abs(copy["reward"] - step.reward) <= 1e-9, where
                assert infos[0]["success"] == step.success, where
                assert not done[0], where
                assert np.array_equal(obs[0, :39], step.observation.astype(np.float32)), where
                assert reward[0] == np.float32(step.reward), where
                successes.append(step.success)
                last_obs, last_reward, last_done, last_infos = ending.step(step.action[None])
                assert last_done[0] == step.truncated, where
                assert last_infos[0]["TimeLimit.truncated"] == step.truncated, where
            assert infos[0]["is_success"] == any(successes)
            assert len(successes) == steps
            assert last_done[0], "Meta-World no longer truncates at the horizon"
            assert last_reward[0] == reward[0]
            last = last_infos[0]
            assert np.array_equal(last["terminal_observation"][:39], step.observation.astype(np.float32))
            assert (last["success"], last["is_success"]) == (step.success, any(successes))
            assert last["episode"]["l"] == steps
            np.testing.assert_array_equal(last_obs[0], first)
            if policy is reference.expert:
                solved.append(any(successes))
    native.close()
    ending.close()
    stock.close()
    return solved


@pytest.mark.parametrize("task", MT50)
def test_one_goal_of_each_of_two_seeds_agrees_with_metaworld(task):
    assert_episodes_agree(task, SEEDS[0], [13], [reference.uniform, reference.expert_in_double])
    solved = assert_episodes_agree(task, SEEDS[1], [20], [reference.expert, reference.extreme])
    assert all(solved)


@pytest.mark.parametrize("task", MT10)
def test_one_goal_with_the_v1_reward_agrees_with_metaworld(task):
    policies = [reference.expert, reference.uniform]
    assert_episodes_agree(task, SEEDS[0], [20], policies, reward_version="v1")


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("task", MT10)
def test_all_goals_with_the_v1_reward_agree_with_metaworld(task, seed):
    assert_episodes_agree(task, seed, range(GOALS), POLICIES, reward_version="v1")


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("task", MT50)
def test_all_goals_agree_with_metaworld(task, seed):
    solved = assert_episodes_agree(task, seed, range(GOALS), POLICIES[:3])
    assert_episodes_agree(task, seed, range(0, GOALS, 10), POLICIES[3:])
    if task in MT10:
        assert np.mean(solved) >= 0.8, f"Meta-World's own expert solves only {np.mean(solved):.0%} of {task}"


@pytest.mark.parametrize("steps", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_resets_leave_no_trace(steps):
    """After ``steps`` steps of short episodes, the next episodes are still Meta-World's."""
    native = reference.native_env(list(MT10), horizon=20)
    native.reset()
    generator = np.random.default_rng(0)
    for _ in range(steps // len(MT10)):
        native.step(generator.uniform(-1, 1, (len(MT10), 4)).astype(np.float32))
    native.horizon = 100
    for i in range(len(MT10)):
        native.env_method("set_task", i, 5, indices=[i])
    native.reset()
    actions = generator.uniform(-1, 1, (99, len(MT10), 4)).astype(np.float32)
    results = [native.step(action) for action in actions]
    for i, task in enumerate(MT10):
        stock = reference.metaworld_env(task)
        observation = reference.reset_to(stock, task, 0, 5)
        played = iter(actions[:, i])
        for step, (obs, reward, _, _) in zip(
            reference.play(stock, observation, lambda _, played=played: next(played), 99),
            results,
            strict=True,
        ):
            np.testing.assert_array_equal(obs[i, :39], step.observation.astype(np.float32))
            assert reward[i] == np.float32(step.reward)
        np.testing.assert_array_equal(native._simulations[i].data.qpos, stock.data.qpos)
        np.testing.assert_array_equal(native._simulations[i].data.qvel, stock.data.qvel)
        stock.close()
    native.close()


@pytest.mark.parametrize("task", MT50)
def test_a_reset_changes_no_other_field_of_the_model(task):
    """Copies share all fields of a model but ``body_pos`` and ``site_pos``."""
    env = reference.metaworld_env(task)
    names = [name for name in dir(env.model) if isinstance(getattr(env.model, name, None), np.ndarray)]
    before = {name: getattr(env.model, name).copy() for name in names}

    def same(one, other):
        # A mesh has a face without a normal.
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")

    options = {name: str(getattr(env.model.opt, name)) for name in dir(env.model.opt) if name[0] != "_"}
    for goal in (0, 1):
        reference.reset_to(env, task, 0, goal)
    changed = {name for name in names if not same(before[name], getattr(env.model, name))}
    assert changed <= {"body_pos", "site_pos"}
    assert options == {name: str(getattr(env.model.opt, name)) for name in options}
    assert len(names) > 100
    env.close()


def test_metaworld_sets_no_state_that_the_snapshot_lacks():
    """Restoring a snapshot into a simulation that did something else is as good as Meta-World's reset."""
    env = reference.metaworld_env("push-v3")
    native = reference.native_env(["push-v3"])
    observation = reference.reset_to(env, "push-v3", 0, 3)
    native.reset()
    native.step(np.ones((1, 4), np.float32))
    native.env_method("set_task", 0, 3)
    np.testing.assert_array_equal(native.reset()[0, :39], observation.astype(np.float32))
    state = mujoco.mjtState.mjSTATE_INTEGRATION
    expected = np.empty(mujoco.mj_stateSize(env.model, state))
    mujoco.mj_getState(env.model, env.data, expected, state)
    np.testing.assert_array_equal(native._simulations[0].get_physics(), expected)
    native.close()
    env.close()
