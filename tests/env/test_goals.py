"""Goals are Meta-World's own, for each task and seed, and nothing else."""

import pickle

import metaworld
import numpy as np
import pytest

from mtrl.env.metaworld import goal_set
from mtrl.tasks import HELD_OUT_SEED, MT50

SOME = ["reach-v3", "peg-insert-side-v3", "assembly-v3", "drawer-open-v3"]


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


def test_making_goals_leaves_the_global_generator_alone():
    np.random.seed(3)
    expected = np.random.random(4)
    np.random.seed(3)
    goal_set.cache_clear()
    goal_set("reach-v3", 11)
    np.testing.assert_array_equal(np.random.random(4), expected)


def test_the_shared_array_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        goal_set("reach-v3", 1)[0] = 0
