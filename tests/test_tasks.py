"""The names written out in mtrl.tasks are those of the installed Meta-World."""

import pytest
from metaworld import env_dict

from mtrl import tasks
from mtrl.experiment import compose_run


@pytest.mark.parametrize("name", ["MT10", "MT25", "MT50"])
def test_task_sets_are_metaworlds_in_its_order(name):
    assert getattr(tasks, name) == tuple(getattr(env_dict, f"{name}_V3"))


@pytest.mark.parametrize("name", ["mt3", "mt10", "mt25", "mt50"])
def test_recipes_train_the_sets_they_are_named_after(name):
    assert tuple(compose_run([f"experiment={name}"]).config.env.tasks) == getattr(tasks, name.upper())


def test_tables_cover_the_sets():
    assert set(tasks.MT50) == set(env_dict.ALL_V3_ENVIRONMENTS)
    assert tasks.NATIVE == {"v1": tasks.MT10, "v2": tasks.MT50}
    assert set(tasks.DIFFICULTY) == set(tasks.MT10)
    assert list(tasks.DIFFICULTY.values()) == sorted(tasks.DIFFICULTY.values())


def test_sizes_are_metaworlds():
    env = env_dict.ALL_V3_ENVIRONMENTS["reach-v3"]()
    assert env.action_space.shape == (tasks.ACTION_SIZE,)
    assert env.observation_space.shape == (tasks.OBSERVATION_SIZE,)
    assert env.max_path_length == tasks.HORIZON
    env.close()


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "is empty"),
        (["reach-v2"], "did you mean 'reach-v3'"),
        (["pickplace-v3"], "did you mean 'pick-place-v3'"),
        (["CartPole-v1"], "'CartPole-v1' is not a Meta-World task"),
        (["push-v3", "reach-v3", "push-v3"], "push-v3 stands twice"),
    ],
)
def test_a_set_that_cannot_be_is_refused(names, sentence):
    with pytest.raises(ValueError, match=sentence):
        tasks.check_tasks(names)
