"""The replay buffer against stable-baselines3's and against a plain list of what was added."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize
from transitions import ACTION, OBS, buffer, fill, vector_steps

from mtrl import checks
from mtrl.algo.replay import TaskReplayBuffer
from mtrl.env.metaworld import action_space, observation_space
from mtrl.experiment import compose_run
from mtrl.hardware import replay_bytes

FULL = fill(buffer(), vector_steps(4))
OPTIONS = [{}, {"balanced": True}, {"n_steps": 3}]
TASKS = (0, 2, 1, 2)
"""What four copies play where only some transitions are drawn."""


def test_every_transition_is_held_in_order_until_it_is_overwritten():
    """A time limit does not count as a termination."""
    steps = list(vector_steps(50, tasks=(0, 2, 1)))
    held = fill(buffer(size=100, n_tasks=3), steps)
    assert (held.total_added, held.size()) == (150, 100)
    rows = held.rows(50, 150)
    columns = list(zip(*steps, strict=True))[:5]
    obs, next_obs, actions, rewards, done = (np.concatenate(each)[50:] for each in columns)
    timeout = np.array([info.get("TimeLimit.truncated", False) for step in steps for info in step[5]])[50:]
    expected = {"observations": obs, "next_observations": next_obs, "actions": actions, "rewards": rewards}
    expected |= {"terminated": done & ~timeout, "truncated": done & timeout}
    expected["tasks"] = np.tile([0, 2, 1], 50)[50:]
    assert expected.keys() == rows.keys()
    for name, values in expected.items():
        assert np.array_equal(rows[name], values), name
    batch = held._get_samples(np.arange(50, 150) % 100)
    assert np.array_equal(batch.dones[:, 0].numpy(), done & ~timeout)
    assert np.array_equal(batch.rewards[:, 0].numpy(), rewards)
    assert (done & ~timeout).any()
    assert (done & timeout).any()
    with pytest.raises(ValueError, match=r"holds 50 to 150"):
        held.rows(49, 150)


def held_of(size, n_steps=1, balanced=False, vector_steps_made=60):
    held = buffer(size, 4, n_tasks=3, balanced=balanced, n_steps=n_steps, gamma=0.9)
    return fill(held, vector_steps(vector_steps_made, 4, TASKS))


def keys_of(observations):
    return {tuple(observation) for observation in np.asarray(observations).tolist()}


def drawn(held, batches=600, batch_size=12):
    return keys_of(np.concatenate([held.sample(batch_size).observations for _ in range(batches)]))


def expected(held, low, tasks):
    rows = held.rows(low, held.total_added)
    return keys_of(rows["observations"][np.isin(rows["tasks"], tasks)])


@pytest.mark.parametrize("restricted", [False, True])
def test_uniform_sampling_gives_each_transition_the_same_chance_whatever_its_task(restricted):
    held = fill(buffer(60, 4, n_tasks=3), vector_steps(30, 4, TASKS)) if not restricted else held_of(400)
    rows, allowed = held.rows(60, 120), (0, 1, 2)
    if restricted:
        allowed = (0, 2)
        held.restrict(120, allowed)
        rows = held.rows(120, 240)
    wanted = rows["rewards"][np.isin(rows["tasks"], allowed)]
    drawn = np.concatenate([held.sample(len(wanted)).rewards[:, 0].numpy() for _ in range(1000)])
    values, counts = np.unique(drawn, return_counts=True)
    assert set(values) == set(wanted)
    # each is expected 1,000 times, standard deviation 31
    assert counts.min() > 850
    assert counts.max() < 1150


def test_balanced_sampling_is_sorted_equal_and_exact_with_unequal_copies():
    tasks = (0, 1, 1, 1, 1, 2)
    held = fill(buffer(200, 6, n_tasks=3, balanced=True), vector_steps(100, 6, tasks))
    rows = held.rows(400, 600)
    seen = {task: set() for task in range(3)}
    for _ in range(200):
        batch = held.sample(30)
        assert batch.sorted_by_task
        assert batch.tasks.tolist() == [0] * 10 + [1] * 10 + [2] * 10
        for task, reward in zip(batch.tasks.tolist(), batch.rewards[:, 0].tolist(), strict=True):
            seen[task].add(np.float32(reward))
    for task in range(3):
        assert seen[task] == set(rows["rewards"][rows["tasks"] == task])


def test_balanced_batch_is_shared_by_the_tasks_that_have_transitions_and_are_allowed():
    held = fill(buffer(20, 2, n_tasks=3, balanced=True), vector_steps(10, 2, (2, 0)))
    batch = held.sample(9)
    assert not batch.sorted_by_task
    assert batch.tasks.tolist() == [0] * 5 + [2] * 4
    # Those of both tasks are overwritten.
    fill(held, vector_steps(10, 2, (1, 1)))
    assert held._index.counts().tolist() == [0, 20, 0]
    assert held.sample(6).tasks.tolist() == [1] * 6
    held = held_of(400, balanced=True)
    held.restrict(0, (0, 2))
    batch = held.sample(12)
    assert batch.tasks.tolist() == [0] * 6 + [2] * 6
    assert not batch.sorted_by_task
    held.restrict(100)
    assert held.sample(12).sorted_by_task


@pytest.mark.parametrize("capacity", [300, 30])
def test_n_step_returns_equal_those_of_stable_baselines3(capacity):
    """Episode ends, time limits, the newest transition and the wrap-around included."""
    theirs = NStepReplayBuffer(capacity, OBS, ACTION, device="cpu", n_envs=3, n_steps=4, gamma=0.9)
    ours = buffer(capacity, n_steps=4, gamma=0.9)
    for step in vector_steps(45):
        theirs.add(*step)
        ours.add(*step)
    rows = np.repeat(np.arange(theirs.size()), 60)
    expected = theirs._get_samples(rows)
    by_observation = {tuple(obs): row for row, obs in enumerate(expected.observations.tolist())}
    got = ours._get_samples(np.arange(ours.size()))
    assert len(by_observation) == ours.size()
    match = [by_observation[tuple(obs)] for obs in got.observations.tolist()]
    for name in ("actions", "next_observations", "dones", "rewards", "discounts"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name)[match], rtol=1e-5, atol=1e-6)
    assert len(got.discounts.unique()) == 4


def test_dropped_transition_is_counted_and_breaks_the_chain_of_rewards():
    steps = list(vector_steps(3, n_envs=1, tasks=(0,), end=0))
    steps[1][5][0]["unstable"] = True
    steps[1][3][0] = np.nan
    held = fill(buffer(n_envs=1, n_steps=3, gamma=0.5), steps)
    assert (held.total_added, held.dropped) == (2, 1)
    batch = held._get_samples(np.arange(2))
    assert batch.rewards[:, 0].tolist() == [steps[0][3][0], steps[2][3][0]]
    assert batch.discounts[:, 0].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    ("size", "restriction"), [(400, {}), (50, {}), (50, {"since": 160, "tasks": (0, 2)})]
)
def test_restored_buffer_goes_on_exactly_like_the_original(options, size, restriction):
    options = {"n_tasks": 3, "seed": 1} | options
    steps = list(vector_steps(80, tasks=(0, 2, 1)))
    original = fill(buffer(size, **options), steps[:60])
    original.restrict(**restriction)
    original.sample(12)
    low = original.total_added - original.size()
    # as a checkpoint does: one segment written long before the other
    cut = low + 20
    parts = [original.rows(low, cut), original.rows(cut, original.total_added)]
    restored = fill(buffer(size, **(options | {"seed": 7})), steps[:1])
    restored.restrict(0, (1,))
    restored.restore(low, parts)
    restored.set_state(json.loads(json.dumps(original.get_state())))
    for more in (steps[60:70], steps[70:]):
        for held in (original, restored):
            fill(held, more)
        for _ in range(10):
            first, second = original.sample(12), restored.sample(12)
            for a, b in zip(first, second, strict=True):
                assert torch.equal(a, b) if torch.is_tensor(a) else a == b


def test_segment_written_early_still_learns_what_followed_it():
    steps = list(vector_steps(10, n_envs=1, tasks=(0,), end=0))
    original = fill(buffer(50, 1, n_steps=4), steps[:5])
    early = original.rows(0, 5)
    fill(original, steps[5:])
    late = original.rows(5, 10)
    restored = buffer(50, 1, n_steps=4)
    restored.restore(0, [early, late])
    first, second = (held._get_samples(np.arange(10)) for held in (original, restored))
    assert torch.equal(first.rewards, second.rewards)
    assert torch.equal(first.discounts, second.discounts)


def test_memory_is_known_before_it_is_allocated():
    held = fill(buffer(1000, 3, n_tasks=3, balanced=True, n_steps=3), vector_steps(600, tasks=(0, 1, 1)))
    used = held._storage.numel() * 4 + held._chain._next.nbytes + held._chain.previous.nbytes
    used += sum(numbers.nbytes for numbers in held._index._numbers)
    needed = replay_bytes(1000, 5, 2, balanced=True, n_steps=3)
    assert 0.75 * needed < used < 1.01 * needed
    # one million transitions of MT10: 39 + 10 observations, 4 actions
    assert replay_bytes(1_000_000, 49, 4, balanced=True) < 450e6


def test_normaliser_is_applied_when_sampling():
    class Normaliser(VecNormalize):
        def __init__(self):
            pass

        def normalize_obs(self, obs):
            return obs * 2

        def normalize_reward(self, reward):
            return reward.astype(np.float64) / 4

    held = fill(buffer(), vector_steps(20))
    state = held.get_state()
    plain = held.sample(16)
    held.set_state(state)
    scaled = held.sample(16, env=Normaliser())
    torch.testing.assert_close(scaled.observations, 2 * plain.observations)
    torch.testing.assert_close(scaled.next_observations, 2 * plain.next_observations)
    torch.testing.assert_close(scaled.rewards, plain.rewards / 4)
    assert scaled.rewards.dtype == torch.float32


def test_mean_reward_per_task_counts_only_what_is_held():
    held = fill(buffer(30, n_tasks=3), vector_steps(40, tasks=(0, 2, 2)))
    rows = held.rows(90, 120)
    means = held.mean_reward_per_task()
    assert means[[0, 2]] == pytest.approx([rows["rewards"][rows["tasks"] == task].mean() for task in (0, 2)])
    assert np.isnan(means[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: buffer(optimize_memory_usage=True), "leave it False"),
        (lambda: buffer().sample(4), "is empty"),
        (
            lambda: fill(buffer(n_tasks=2, balanced=True), vector_steps(2)).sample(5),
            "does not divide by 2 tasks",
        ),
        (lambda: buffer(10).restore(0, [FULL.rows(0, 6), FULL.rows(6, 12)]), "do not fit a buffer of 10"),
        (lambda: buffer(n_steps=2).restore(0, [FULL.rows(0, 3)]), "saved with n_steps=1"),
        (lambda: TaskReplayBuffer(9, ACTION, ACTION).restore(0, [FULL.rows(0, 3)]), "have other shapes"),
    ],
)
def test_impossible_requests_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ((0, None, 1), "copy 1 lacks task_id"),
        *(((0, task, 1), f"copy 1 plays the task {task}, which is none of the 2") for task in (-1, 2, 7)),
        ((0, 1, 1), "copy 2 ends with .*not the one-hot of its task 1 among 2"),
    ],
)
def test_task_that_is_none_of_the_buffers_or_not_its_one_hots_is_refused(tasks, message):
    step = next(vector_steps(1, tasks=(0, 1, 0)))
    step[0][:, -2:] = np.eye(2)[[0, 1, 0]]
    held = fill(buffer(n_tasks=2, balanced=True, one_hot=True), [step])
    for info, task in zip(step[5], tasks, strict=True):
        info["task_id"] = task
    if None in tasks:
        del step[5][1]["task_id"]
    with pytest.raises(ValueError, match=message):
        held.add(*step)
    assert held.size() == 3


def test_memory_of_the_index_follows_tasks_that_come_one_after_another():
    held = buffer(1000, 2, n_tasks=10, balanced=True)
    for task in range(10):
        fill(held, vector_steps(600, 2, (task, task)))
        numbers = held._index._numbers
        assert sum(map(len, numbers)) <= 2 * held.size()
        counts = held._index.counts()
        assert counts.sum() == held.size()
        assert held._index.sample(20, np.random.default_rng(0))[0].min() >= held.total_added - held.size()
    assert [len(each) for each in numbers[:8]] == [0] * 8


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [400, 100])
@pytest.mark.parametrize(
    ("since", "tasks"), [(170, None), (0, (0, 2)), (170, (1,)), (240, (0, 1)), (10, (2,))]
)
def test_only_what_is_allowed_is_drawn_and_all_of_it(options, size, since, tasks):
    held = held_of(size, **options)
    held.restrict(since, tasks)
    # Also of those that come later, while the oldest are overwritten.
    fill(held, vector_steps(20, 4, TASKS, seed=1))
    low = max(since, held.total_added - held.size())
    assert drawn(held) == expected(held, low, (0, 1, 2) if tasks is None else tasks)


def test_sums_over_several_steps_are_those_of_the_whole_buffer():
    held = held_of(100, n_steps=3)
    whole = held._get_samples(np.arange(100))
    by_observation = {tuple(obs): row for row, obs in enumerate(whole.observations.tolist())}
    held.restrict(180, (2,))
    batch = held.sample(300)
    match = [by_observation[tuple(obs)] for obs in batch.observations.tolist()]
    for name in ("next_observations", "rewards", "dones", "discounts"):
        assert torch.equal(getattr(batch, name), getattr(whole, name)[match])
    assert len(batch.discounts.unique()) > 1


@pytest.mark.parametrize("balanced", [False, True])
def test_all_are_drawn_until_a_batch_is_allowed(balanced):
    held = held_of(400, balanced=balanced)
    held.restrict(held.total_added, (1,))
    # One copy of four plays the task: 11 transitions are less than a batch of 12.
    fill(held, vector_steps(11, 4, TASKS, seed=1))
    assert drawn(held) == expected(held, 0, (0, 1, 2))
    fill(held, vector_steps(1, 4, TASKS, seed=2))
    assert drawn(held) == expected(held, 240, (1,))


def test_a_restriction_deletes_and_renumbers_nothing_and_lifted_leaves_no_trace():
    first, second = held_of(100), held_of(100)
    first.restrict(first.total_added, (1,))
    for held in (first, second):
        fill(held, vector_steps(5, 4, TASKS, seed=1))
    assert first.total_added == second.total_added
    for name, values in second.rows(160, 260).items():
        assert np.array_equal(first.rows(160, 260)[name], values)
    first.restrict()
    assert first.get_state() == second.get_state()
    assert torch.equal(first.sample(50).observations, second.sample(50).observations)


def measured():
    flat = spaces.Box(-1, 1, (2,), np.float32)
    return TaskReplayBuffer(50, flat, flat, "cpu", 4, n_tasks=3, gamma=0.9, measure_returns=True)


def paid_steps(n, seed=0):
    """Yield rewards, tasks, ends and broken steps; a copy changes its task when an episode ends, never to task 2."""
    generator = np.random.default_rng(seed)
    tasks = np.array([0, 1, 0, 1])
    for _ in range(n):
        broken = generator.random(4) < 0.05
        ends = broken | (generator.random(4) < 0.2)
        rewards = generator.normal(tasks + 1, 1).astype(np.float32)
        yield rewards, tasks.copy(), ends, broken
        tasks[ends] = generator.integers(0, 2, ends.sum())


def add(held, rewards, tasks, ends, broken):
    infos = [{"task_id": int(task), "unstable": bad} for task, bad in zip(tasks, broken, strict=True)]
    seen = np.zeros((4, 2), np.float32)
    held.add(seen, seen, seen, np.where(broken, np.nan, rewards).astype(np.float32), ends, infos)


def test_the_size_of_returns_is_that_of_a_plain_loop():
    held, returns, current = measured(), [[] for _ in range(3)], [0.0] * 4
    assert held.returns.factors().tolist() == [1.0] * 3
    for number, step in enumerate(paid_steps(200)):
        if number == 100:
            held.end_episodes()
            current = [0.0] * 4
        add(held, *step)
        for copy, (reward, task, end, broken) in enumerate(zip(*step, strict=True)):
            current[copy] = (0.0 if broken else float(reward)) + 0.9 * current[copy]
            returns[task].append(current[copy])
            current[copy] *= not end
    for task in (0, 1):
        size = max(np.std(returns[task]), np.abs(returns[task]).max() / 10)
        assert held.returns.factors()[task] == pytest.approx(1 / size, rel=1e-12)
    assert held.returns.factors()[2] == 1.0


def test_rare_large_returns_stay_within_the_largest():
    held = measured()
    for reward in [0.0] * 2000 + [100.0]:
        add(held, np.full(4, reward), [0] * 4, np.ones(4, bool), [False] * 4)
    assert held.returns.factors()[0] * 100 == pytest.approx(10.0)


def test_statistics_continue_exactly_from_their_state():
    steps = list(paid_steps(60))
    whole, first, second = measured(), measured(), measured()
    for step in steps:
        add(whole, *step)
    for step in steps[:31]:
        add(first, *step)
    second.restore(first.total_added, [first.rows(first.total_added - first.size(), first.total_added)])
    second.set_state(json.loads(json.dumps(first.get_state())))
    for step in steps[31:]:
        add(second, *step)
    assert second.returns.get_state() == whole.returns.get_state()


# A process of its own, for what else lives in the one of the tests comes and goes meanwhile.
MEASURE = """
import json, os
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces

from mtrl.algo import TaskReplayBuffer


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


boxes = spaces.Box(-np.inf, np.inf, (49,), np.float32), spaces.Box(-1, 1, (4,), np.float32)
# What is loaded or allocated once, on first use, is not the buffer's.
TaskReplayBuffer(100, *boxes, device="cpu", n_envs=10, n_tasks=10)
before = resident()
buffer = TaskReplayBuffer(1_000_000, *boxes, device="cpu", n_envs=10, n_tasks=10)
allocated = resident() - before
obs, action = np.ones((10, 49), np.float32), np.ones((10, 4), np.float32)
infos = [{"task_id": task} for task in range(10)]
for _ in range(5_000):
    buffer.add(obs, obs, action, np.ones(10), np.zeros(10, bool), infos)
observations = buffer.sample(64).observations
sample = [str(observations.dtype), *observations.shape]
print(json.dumps({"allocated": allocated, "filled": resident() - before, "sample": sample}))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell resident memory")
def test_a_million_transitions_of_mt10_take_memory_only_as_they_come():
    answer = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    measured = json.loads(answer.stdout)
    assert measured["allocated"] < 40 * 2**20
    # A twentieth is held, 21 MB: about as much is taken, and not the whole.
    assert 10 * 2**20 < measured["filled"] < 80 * 2**20
    assert measured["sample"] == ["torch.float32", 64, 49]


@pytest.mark.parametrize(("recipe", "n_tasks", "task_id"), [("mt10", 10, True), ("mt3", 3, False)])
def test_what_the_check_of_free_memory_counts_is_what_the_buffer_takes(recipe, n_tasks, task_id):
    words = [f"experiment={recipe}", f"variant={'shared' if task_id else 'plain'}"]
    cfg = compose_run([*words, "algo.buffer_size=1000", "algo.batch_size=150"]).config
    boxes = observation_space(n_tasks, task_id), action_space()
    real = TaskReplayBuffer(1000, *boxes, device="cpu", n_tasks=n_tasks)
    held = sum(t.element_size() * t.nelement() for t in vars(real).values() if torch.is_tensor(t))
    assert held <= checks.replay_bytes(cfg) <= held * 1.3
