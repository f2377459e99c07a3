"""The native environments give Meta-World's numbers."""

from itertools import product

import metaworld_reference as reference
import numpy as np
import pytest

from mtrl.env.metaworld import get_physics, make_original
from mtrl.tasks import GOALS, MT10, MT50

SEEDS = (0, 7)


def fields_of(model):
    """Return copies of all arrays of a model, and its options as text."""
    arrays = {
        name: value.copy() for name in dir(model) if isinstance(value := getattr(model, name), np.ndarray)
    }
    options = {name: str(getattr(model.opt, name)) for name in dir(model.opt) if name[0] != "_"}
    return arrays, options


def assert_episodes_agree(task, seed, episodes, rewards=("v2",)):
    """Hold episodes of one task, given as (goal, policy, steps), to Meta-World's.

    Returns for each of the expert's whether it was solved.
    """
    stock = make_original(task)
    arrays, options = fields_of(stock.model)
    groups, solved = {}, []
    for goal, policy, steps in episodes:
        first = reference.reset_to(stock, task, seed, goal)
        played = reference.play(stock, first, policy(task, 100 * seed + goal), steps, rewards)
        groups.setdefault((steps, played[0].action.dtype), []).append((goal, np.float32(first), played))
        if policy is reference.expert:
            solved.append(any(step.paid["v2"][1] for step in played))
    for (steps, _), group in groups.items():
        for version in rewards:
            assert_native_agrees(task, seed, version, steps, *zip(*group, strict=True))
    # Copies share all fields of a model but these two.
    after, options_after = fields_of(stock.model)
    # A mesh has a face without a normal.
    same = {name for name, one in arrays.items() if np.array_equal(one, after[name], one.dtype.kind == "f")}
    assert arrays.keys() - same <= {"body_pos", "site_pos"}
    assert len(arrays) > 100
    assert options == options_after
    stock.close()
    return solved


def assert_native_agrees(task, seed, version, steps, goals, firsts, played):
    """Hold native copies to episodes of one length that Meta-World has played, each a copy."""
    # One step longer than the episode, so that its last state can still be looked at before the reset.
    native = reference.native_env([task], len(goals), seed=seed, reward=version, horizon=steps + 1)
    for copy, goal in enumerate(goals):
        native.env_method("set_task", 0, goal, indices=[copy])
    np.testing.assert_array_equal(native.reset()[:, :39], firsts)
    data = [simulation.data for simulation in native._simulations]
    success = np.zeros(len(goals), bool)
    for number, of_copies in enumerate(zip(*played, strict=True), 1):
        where = f"{task}, goals {goals} of seed {seed}, reward {version}, step {number}"
        if number == steps:
            before = native.env_method("get_state")
        actions = np.stack([step.action for step in of_copies])
        obs, reward, done, infos = native.step(actions)
        assert np.array_equal([one.qpos for one in data], [step.qpos for step in of_copies]), where
        assert np.array_equal([one.qvel for one in data], [step.qvel for step in of_copies]), where
        observations = np.array([step.observation for step in of_copies])
        paid, solved = zip(*(step.paid[version] for step in of_copies), strict=True)
        assert np.abs(native._copies["observation"] - observations).max() <= 1e-12, where
        assert np.abs(native._copies["reward"] - paid).max() <= 1e-9, where
        success |= solved
        told = [(info["success"], info["is_success"]) for info in infos]
        assert told == list(zip(solved, success.tolist(), strict=True)), where
        assert not done.any(), where
        assert {step.truncated for step in of_copies} == {number == 500}, where
        assert np.array_equal(obs[:, :39], observations.astype(np.float32)), where
        assert np.array_equal(reward, np.float32(paid)), where
    # The last step again, where the horizon ends the episode.
    for copy, state in enumerate(before):
        native.env_method("set_state", state, indices=[copy])
    native.horizon = steps
    last_obs, last_reward, done, infos = native.step(actions)
    assert done.all()
    np.testing.assert_array_equal(last_reward, reward)
    np.testing.assert_array_equal([info["terminal_observation"] for info in infos], obs)
    np.testing.assert_array_equal(last_obs[:, :39], firsts)
    assert [(info["success"], info["is_success"]) for info in infos] == told
    assert {(info["TimeLimit.truncated"], info["episode"]["l"]) for info in infos} == {(True, steps)}
    native.close()


def rewards_of(task):
    return ("v2", "v1") if task in MT10 else ("v2",)


@pytest.mark.parametrize("task", MT50)
def test_random_expert_and_extreme_actions_have_metaworlds_results(task):
    whole = [(13, reference.uniform, 500), (20, reference.expert, 500), (20, reference.extreme, 500)]
    whole += [(13, reference.expert_in_double, 100)]
    assert assert_episodes_agree(task, SEEDS[1], whole, rewards_of(task)) == [True]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("task", MT50)
def test_all_goals_agree_with_metaworld(task, seed):
    policies = reference.uniform, reference.expert, reference.extreme
    episodes = [(goal, policy, 500) for goal, policy in product(range(GOALS), policies)]
    doubles = range(0, GOALS, 1 if task in MT10 else 10)
    episodes += [(goal, reference.expert_in_double, 500) for goal in doubles]
    solved = assert_episodes_agree(task, seed, episodes, rewards_of(task))
    if task in MT10:
        assert np.mean(solved) >= 0.8, f"Meta-World's own expert solves only {np.mean(solved):.0%} of {task}"


@pytest.mark.parametrize("steps", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_resets_leave_no_trace(steps):
    """After ``steps`` steps of short episodes, the next episodes are still Meta-World's, in MuJoCo's state too."""
    native = reference.native_env(list(MT10), horizon=20)
    native.reset()
    generator = np.random.default_rng(0)
    for _ in range(steps // len(MT10)):
        native.step(generator.uniform(-1, 1, (len(MT10), 4)).astype(np.float32))
    native.horizon = 100
    for i in range(len(MT10)):
        native.env_method("set_task", i, 5, indices=[i])
    firsts = native.reset()
    states = [simulation.get_physics() for simulation in native._simulations]
    actions = generator.uniform(-1, 1, (99, len(MT10), 4)).astype(np.float32)
    results = [native.step(action) for action in actions]
    for i, task in enumerate(MT10):
        stock = make_original(task)
        observation = reference.reset_to(stock, task, 0, 5)
        np.testing.assert_array_equal(firsts[i, :39], observation.astype(np.float32))
        np.testing.assert_array_equal(states[i], get_physics(stock.model, stock.data))
        played = iter(actions[:, i])
        steps_of_stock = reference.play(
            stock, observation, lambda _, played=played: next(played), 99, ("v2",)
        )
        for step, (obs, reward, _, _) in zip(steps_of_stock, results, strict=True):
            np.testing.assert_array_equal(obs[i, :39], step.observation.astype(np.float32))
            assert reward[i] == np.float32(step.paid["v2"][0])
        np.testing.assert_array_equal(native._simulations[i].data.qpos, stock.data.qpos)
        np.testing.assert_array_equal(native._simulations[i].data.qvel, stock.data.qvel)
        stock.close()
    native.close()
