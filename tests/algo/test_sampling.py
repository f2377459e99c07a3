"""A replay buffer that is told to draw only some of its transitions."""

import json

import numpy as np
import pytest
import torch
from transitions import buffer, fill, vector_steps

TASKS = (0, 2, 1, 2)


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


@pytest.mark.parametrize("options", [{}, {"balanced": True}, {"n_steps": 3}])
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


def test_transitions_of_all_allowed_tasks_have_the_same_chance():
    held = held_of(400)
    held.restrict(120, (0, 2))
    rewards = np.concatenate([held.sample(90).rewards[:, 0].numpy() for _ in range(1000)])
    rows = held.rows(120, 240)
    values, counts = np.unique(rewards, return_counts=True)
    assert set(values) == set(rows["rewards"][rows["tasks"] != 1])
    # 90,000 draws over 90 transitions: 1,000 each, standard deviation 31
    assert counts.min() > 850
    assert counts.max() < 1150


def test_balanced_batches_are_shared_by_the_allowed_tasks():
    held = held_of(400, balanced=True)
    held.restrict(0, (0, 2))
    batch = held.sample(12)
    assert batch.tasks.tolist() == [0] * 6 + [2] * 6
    assert not batch.sorted_by_task
    held.restrict(100)
    assert held.sample(12).sorted_by_task


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


def test_a_restriction_that_is_lifted_leaves_no_trace():
    first, second = held_of(400), held_of(400)
    first.restrict(200, (1,))
    first.restrict()
    assert first.get_state() == second.get_state()
    assert torch.equal(first.sample(50).observations, second.sample(50).observations)


def test_nothing_is_renumbered_or_deleted():
    first, second = held_of(100), held_of(100)
    first.restrict(first.total_added, (1,))
    for held in (first, second):
        fill(held, vector_steps(5, 4, TASKS, seed=1))
    assert first.total_added == second.total_added
    for name, values in second.rows(160, 260).items():
        assert np.array_equal(first.rows(160, 260)[name], values)


@pytest.mark.parametrize("options", [{}, {"balanced": True}, {"n_steps": 3}])
def test_a_restored_buffer_draws_on_exactly(options):
    original = held_of(100, **options)
    original.restrict(230, (0, 2))
    original.sample(12)
    state = json.loads(json.dumps(original.get_state()))
    restored = held_of(100, **options, vector_steps_made=1)
    restored.restrict(0, (1,))
    restored.restore(140, [original.rows(140, 240)])
    restored.set_state(state)
    for more in range(3):
        for held in (original, restored):
            fill(held, vector_steps(3, 4, TASKS, seed=more))
        assert torch.equal(original.sample(12).observations, restored.sample(12).observations)
