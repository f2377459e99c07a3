"""Tasks reach the copies in the proportions of the weights, over time, whatever the number of copies."""

import json

import numpy as np
import pytest

from mtrl.curriculum.rotation import Rotation
from mtrl.env.make import make_vec_env
from mtrl.tasks import MT3

HORIZON = 10


class Copies:
    """Copies that play what they are told, with episodes of given lengths."""

    def __init__(self, n):
        self.num_envs, self.assigned, self.changes = n, [None] * n, 0

    def env_method(self, name, task, indices):
        assert name == "set_task"
        self.assigned[indices[0]] = task
        self.changes += 1


def rotated(n_copies, weights):
    env = Copies(n_copies)
    return env, Rotation(env, HORIZON, weights)


def play(rotation, env, duration, length=lambda task: HORIZON):
    """Step all copies side by side; return the environment steps of each task."""
    steps = np.zeros(len(rotation.weights))
    playing, ages = list(env.assigned), [0] * len(env.assigned)
    rotation.episodes_began(rotation.copies)
    for _ in range(duration):
        for copy, task in enumerate(playing):
            steps[task] += 1
            ages[copy] += 1
            if ages[copy] == length(task):
                rotation.episode_ended(copy, task, ages[copy])
                playing[copy], ages[copy] = env.assigned[copy], 0
                rotation.episodes_began([copy])
    return steps


UNEVEN = [0.133, 0.534, 0.333]


@pytest.mark.parametrize("weights", [[1.0, 0.0, 0.0], [0.5, 0.25, 0.25], UNEVEN, [1 / 3] * 3, [0.1] * 10])
@pytest.mark.parametrize("copies", [1, 2, 3, 4, 7, 30])
def test_shares_hold_over_time(weights, copies):
    env, rotation = rotated(copies, weights)
    steps = play(rotation, env, 400 * HORIZON)
    within = 1 if copies < len(weights) and len(set(weights)) == 1 else 2
    assert np.abs(steps - np.array(weights) * steps.sum()).max() <= within * HORIZON


def test_shares_are_of_steps_where_episodes_end_early():
    env, rotation = rotated(2, [0.25, 0.75])
    steps = play(rotation, env, 2000, lambda task: 2 if task == 0 else HORIZON)
    assert steps[0] / steps.sum() == pytest.approx(0.25, abs=0.005)


def test_copies_keep_their_tasks_where_the_shares_divide():
    env, rotation = rotated(30, [0.1, 0.3, 0.6])
    before = env.changes
    play(rotation, env, 50 * HORIZON)
    assert env.changes == before
    assert [env.assigned.count(task) for task in range(3)] == [3, 9, 18]


def test_a_change_moves_no_more_copies_than_it_must():
    env, rotation = rotated(10, [0.5, 0.5, 0.0])
    play(rotation, env, 3 * HORIZON)
    before = list(env.assigned)
    rotation.change([0.4, 0.4, 0.2], afresh=True)
    assert sum(old != new for old, new in zip(before, env.assigned, strict=True)) == 2
    assert [env.assigned.count(task) for task in range(3)] == [4, 4, 2]


def test_shares_hold_after_many_changes_of_weights():
    generator = np.random.default_rng(0)
    env, rotation = rotated(2, [0.2] * 5)
    steps, wanted = np.zeros(5), np.zeros(5)
    playing = list(env.assigned)
    rotation.episodes_began(range(2))
    for _ in range(300):
        weights = generator.dirichlet(np.ones(5))
        for _ in range(2):
            for copy, task in enumerate(playing):
                steps[task] += HORIZON
                wanted += np.array(rotation.weights) * HORIZON
                playing[copy] = env.assigned[copy]
                rotation.episodes_began([copy])
        rotation.change(weights, afresh=False)
    assert np.abs(steps - wanted).max() <= 4 * HORIZON


def test_state_survives_json_and_goes_on_alike():
    env, rotation = rotated(4, UNEVEN)
    play(rotation, env, 17 * HORIZON)
    other_env, other = rotated(4, [1.0, 0.0, 0.0])
    other.set_state(json.loads(json.dumps(rotation.get_state())))
    other_env.assigned = list(env.assigned)
    for copy in (0, 1, 2, 3, 1, 0, 2, 3, 3, 2) * 5:
        rotation.episodes_began([copy])
        other.episodes_began([copy])
        assert other_env.assigned == env.assigned


@pytest.mark.parametrize("backend", ["stock", "native"])
def test_a_new_task_begins_at_the_next_reset_of_a_copy(backend):
    horizon, action, seen = 5, np.zeros((2, 4), dtype=np.float32), []
    env = make_vec_env(MT3, [2, 0, 0], seed=3, backend=backend, horizon=horizon, workers=1, threads=1)
    rotation = Rotation(env, horizon, [1.0, 0.0, 0.0])
    shape = env.reset().shape
    rotation.episodes_began(rotation.copies)
    for step in range(3 * horizon):
        if step == 2:
            rotation.change([0.0, 0.5, 0.5], afresh=True)
        obs, _, dones, infos = env.step(action)
        assert obs.shape == shape
        seen.append([info["task_id"] for info in infos])
        if dones.any():
            rotation.episodes_began(np.flatnonzero(dones).tolist())
    env.close()
    assert seen[:horizon] == [[0, 0]] * horizon
    assert all(sorted(tasks) == [1, 2] for tasks in seen[horizon:])
