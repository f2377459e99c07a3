"""The run directory is a function of what is learned, and of nothing else."""

import re
from dataclasses import replace
from functools import cache

import pytest

from mtrl.config.compose import defaults_of
from mtrl.config.types import is_learned, is_noted
from mtrl.experiment import compose_run, run_directory


@cache
def directory(*words):
    return run_directory(compose_run(list(words)))


def test_the_form_is_output_experiment_words_hash_seed():
    path = directory("task=push-v3", "algo.gamma=0.5", "seed=7", "output=here")
    assert re.fullmatch(r"here/mt1/push-v3,algo\.gamma=0\.5-[0-9a-f]{8}/seed=7", str(path))


@pytest.mark.parametrize(
    "words",
    [
        "total_steps=5",
        "fresh=true",
        "phase=1",
        "hardware=cpu",
        "hardware.torch_threads=3",
        "hardware.backend=stock",
        "logging.every=7",
        "logging.progress=off",
        "checkpoint.every=7",
        "stop.success=0.9",
        "evaluation.every=7",
        "evaluation.goals=heldout",
        "hydra.verbose=true",
        "algo=sac",
        "task=reach-v3",
        "env.horizon=500",
    ],
)
def test_what_changes_nothing_that_is_learned_changes_no_directory(words):
    assert directory(*words.split()) == directory()


def test_the_length_of_evaluations_changes_no_directory():
    assert directory("env.horizon=200", "evaluation.horizon=300") == directory("env.horizon=200")


LEARNED = (
    "task=push-v3",
    "algo=td3",
    "variant=plain",
    "algo.gamma=0.5",
    "algo.buffer_size=5e5",
    "env.horizon=499",
    "env.reward=v1",
    "env.copies_per_task=3",
    "env.normalize_reward=true",
    "variant.actor_layers=[32]",
    "algo.kwargs.target_update_interval=2",
    "task=null env.tasks=[push-v3,reach-v3]",
    "task=null env.tasks=[reach-v3,push-v3]",
)


def test_what_changes_the_learning_changes_the_directory():
    paths = [directory(), *(directory(*words.split()) for words in LEARNED)]
    assert len(set(paths)) == 1 + len(LEARNED)


def test_a_seed_is_a_directory_of_its_own_under_the_same_parent():
    one, other = directory("seed=1"), directory("seed=2")
    assert one.parent == other.parent
    assert one != other


def test_the_order_of_overrides_does_not_matter():
    assert directory("algo.gamma=0.5", "algo.tau=0.1") == directory("algo.tau=0.1", "algo.gamma=0.5")


def test_a_key_added_to_the_project_later_changes_no_directory(monkeypatch):
    """The hash covers what differs from the defaults: a new key stands on both sides."""
    before = compose_run(["algo.gamma=0.5"])
    path = run_directory(before)
    monkeypatch.setitem(before.values["algo"], "added_later", 1)
    for chosen in ({}, {"experiment": "mt1", "tuned": True}):
        for options in ({"algo": "sac", "variant": "shared", "curriculum": "none"}, {}):
            if chosen or options:
                monkeypatch.setitem(defaults_of(**chosen, **options).values["algo"], "added_later", 1)
    # A copy: the differences of a composition are computed once.
    assert run_directory(replace(before)) == path


def test_differences_name_what_a_person_changed():
    composition = compose_run(["experiment=mt10", "algo=td3", "algo.tau=0.5"])
    assert composition.differences == {"algo": "td3", "algo.tau": 0.5}
    assert compose_run(["experiment=mt10"]).differences == {}


def test_a_long_list_of_overrides_gives_a_directory_that_a_file_system_takes():
    words = [f"algo.{key}=0.123" for key in ("gamma", "tau", "learning_rate", "reward_scale")]
    path = directory("env.reward=v1", "env.horizon=77", "variant.actor_layers=[11,12,13,14,15,16]", *words)
    assert max(map(len, path.parts)) <= 100


def test_each_key_says_whether_it_decides_what_is_learned_and_an_unknown_one_is_taken_to():
    learned = ("task", "algo.gamma", "algo.kwargs.x", "algo.policy_delay", "curriculum.floor", "gone")
    others = ("seed", "hardware.device", "stop.success", "transfer.source", "curriculum.start_stage", "fresh")
    assert [key for key in (*learned, *others) if is_learned(key)] == list(learned)
    assert is_learned("task.of_another_program")
    noted = ("total_steps", "hardware.threads")
    assert [key for key in (*noted, "fresh", "phase") if is_noted(key)] == list(noted)


def test_the_run_trained_first_lies_beside_this_one_whatever_the_name_of_their_directory():
    composition = compose_run(["experiment=transfer/reach_to_push", 'output="two, runs"', "algo.gamma=0.98"])
    source = composition.source
    assert source.config.output == composition.config.output == "two, runs"
    assert source.config.algo.gamma == 0.98
    assert source.source is None
    assert compose_run([]).source is None
