"""The size of discounted returns, by which rewards are scaled, against a plain loop over episodes."""

import json

import numpy as np
import pytest
from gymnasium import spaces

from mtrl.algo.replay import TaskReplayBuffer

N_TASKS, N_ENVS, GAMMA = 3, 4, 0.9


def buffer():
    flat = spaces.Box(-1, 1, (2,), np.float32)
    return TaskReplayBuffer(
        50, flat, flat, "cpu", n_envs=N_ENVS, n_tasks=N_TASKS, gamma=GAMMA, measure_returns=True
    )


def vector_steps(n, seed=0):
    """Yield rewards, tasks, ends and broken steps; a copy changes its task when an episode ends, never to task 2."""
    generator = np.random.default_rng(seed)
    tasks = np.array([0, 1, 0, 1])
    for _ in range(n):
        broken = generator.random(N_ENVS) < 0.05
        ends = broken | (generator.random(N_ENVS) < 0.2)
        rewards = generator.normal(tasks + 1, 1).astype(np.float32)
        yield rewards, tasks.copy(), ends, broken
        tasks[ends] = generator.integers(0, 2, ends.sum())


def add(held, rewards, tasks, ends, broken):
    infos = [
        {"task_id": int(task)} | ({"unstable": True} if bad else {})
        for task, bad in zip(tasks, broken, strict=True)
    ]
    seen = np.zeros((N_ENVS, 2), np.float32)
    held.add(seen, seen, seen, np.where(broken, np.nan, rewards).astype(np.float32), ends, infos)


def test_the_size_of_returns_is_that_of_a_plain_loop():
    held, returns, current = buffer(), [[] for _ in range(N_TASKS)], [0.0] * N_ENVS
    assert held.returns.factors().tolist() == [1.0] * N_TASKS
    for number, step in enumerate(vector_steps(200)):
        if number == 100:
            held.end_episodes()
            current = [0.0] * N_ENVS
        add(held, *step)
        for copy, (reward, task, end, broken) in enumerate(zip(*step, strict=True)):
            current[copy] = (0.0 if broken else float(reward)) + GAMMA * current[copy]
            returns[task].append(current[copy])
            current[copy] *= not end
    for task in (0, 1):
        size = max(np.std(returns[task]), np.abs(returns[task]).max() / 10)
        assert held.returns.factors()[task] == pytest.approx(1 / size, rel=1e-12)
    assert held.returns.factors()[2] == 1.0


def test_rare_large_returns_stay_within_the_largest():
    held = buffer()
    for reward in [0.0] * 2000 + [100.0]:
        add(held, np.full(N_ENVS, reward), [0] * N_ENVS, np.ones(N_ENVS, bool), [False] * N_ENVS)
    assert held.returns.factors()[0] * 100 == pytest.approx(10.0)


def test_statistics_continue_exactly_from_their_state():
    steps = list(vector_steps(60))
    whole, first, second = buffer(), buffer(), buffer()
    for step in steps:
        add(whole, *step)
    for step in steps[:31]:
        add(first, *step)
    second.restore(first.total_added, [first.rows(first.total_added - first.size(), first.total_added)])
    second.set_state(json.loads(json.dumps(first.get_state())))
    for step in steps[31:]:
        add(second, *step)
    assert second.returns.get_state() == whole.returns.get_state()
