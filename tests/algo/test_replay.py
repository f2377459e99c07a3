"""The replay buffer against stable-baselines3's and against a plain list of what was added."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize
from transitions import ACTION, OBS, buffer, fill, vector_steps

from mtrl.algo.replay import TaskReplayBuffer
from mtrl.hardware import replay_bytes

FULL = fill(buffer(), vector_steps(4))


def test_every_transition_is_held_in_order_until_it_is_overwritten():
    """A time limit does not count as a termination."""
    steps = list(vector_steps(50, tasks=(0, 2, 1)))
    held = fill(buffer(size=100, n_tasks=3), steps)
    assert (held.total_added, held.size()) == (150, 100)
    rows = held.rows(50, 150)
    obs, next_obs, actions, rewards, done = (
        np.concatenate(each)[50:] for each in list(zip(*steps, strict=True))[:5]
    )
    timeout = np.array([info.get("TimeLimit.truncated", False) for step in steps for info in step[5]])[50:]
    expected = {"observations": obs, "next_observations": next_obs, "actions": actions, "rewards": rewards}
    expected |= {
        "terminated": done & ~timeout,
        "truncated": done & timeout,
        "tasks": np.tile([0, 2, 1], 50)[50:],
    }
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


def test_uniform_sampling_gives_each_transition_the_same_chance_whatever_its_task():
    held = fill(buffer(size=60, n_envs=3, n_tasks=2), vector_steps(40, tasks=(0, 0, 1)))
    drawn = np.concatenate([held.sample(600).rewards[:, 0].numpy() for _ in range(100)])
    values, counts = np.unique(drawn, return_counts=True)
    assert set(values) == set(held.rows(60, 120)["rewards"])
    # 60,000 draws over 60 rows: 1,000 each, standard deviation 31
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


def test_balanced_batch_is_shared_by_the_tasks_that_have_transitions():
    held = fill(buffer(20, 2, n_tasks=3, balanced=True), vector_steps(10, 2, (2, 0)))
    batch = held.sample(9)
    assert not batch.sorted_by_task
    assert batch.tasks.tolist() == [0] * 5 + [2] * 4
    # Those of both tasks are overwritten.
    fill(held, vector_steps(10, 2, (1, 1)))
    assert held._index.counts().tolist() == [0, 20, 0]
    assert held.sample(6).tasks.tolist() == [1] * 6


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


@pytest.mark.parametrize("options", [{}, {"balanced": True}, {"n_steps": 3}])
@pytest.mark.parametrize("size", [400, 50])
def test_restored_buffer_goes_on_exactly_like_the_original(options, size):
    options = {"n_tasks": 2, "seed": 1} | options
    steps = list(vector_steps(80, tasks=(0, 1, 1)))
    original = fill(buffer(size, **options), steps[:60])
    original.sample(10)
    low = original.total_added - original.size()
    # as a checkpoint does: one segment written long before the other
    cut = low + 20
    parts = [original.rows(low, cut), original.rows(cut, original.total_added)]
    restored = buffer(size, **(options | {"seed": 7}))
    restored.restore(low, parts)
    restored.set_state(original.get_state())
    for held in (original, restored):
        fill(held, steps[60:])
    for _ in range(20):
        first, second = original.sample(12), restored.sample(12)
        assert all(
            torch.equal(a, b) if torch.is_tensor(a) else a == b for a, b in zip(first, second, strict=True)
        )


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
    ("info", "message"),
    [({}, "copy 1 lacks task_id")]
    + [
        ({"task_id": task}, f"copy 1 plays the task {task}, which is none of the 2 tasks")
        for task in (-1, 2, 7)
    ],
)
def test_task_that_is_none_of_the_buffers_is_refused(info, message):
    step = next(vector_steps(1, tasks=(0, 0, 1)))
    step[5][1] = info
    held = buffer(n_tasks=2, balanced=True)
    with pytest.raises(ValueError, match=message):
        held.add(*step)
    assert held.size() == 0


def test_one_hot_of_another_task_is_refused():
    held = buffer(n_tasks=2, one_hot=True)
    step = next(vector_steps(1, tasks=(0, 1, 1)))
    step[0][:, -2:] = np.eye(2)[[0, 1, 1]]
    held.add(*step)
    step[0][:, -2:] = np.eye(2)[[0, 1, 0]]
    with pytest.raises(ValueError, match=r"copy 2 ends with .*not the one-hot of its task 1 among 2"):
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
