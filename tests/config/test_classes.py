"""Classes read from their source: as an import describes them, and mistakes are answered without torch."""

import json
import subprocess
import sys
from dataclasses import fields

import pytest
from tiny_runs import REPOSITORY

from mtrl.algo.make import arguments_of
from mtrl.checks import GIVEN
from mtrl.config.classes import _imported, describe, fits
from mtrl.config.types import OWN_OPTIONS
from mtrl.experiment import compose_run

CLASSES = ["mtrl.algo.SAC", *(f"stable_baselines3.{name}" for name in ("SAC", "TD3", "DDPG", "DQN", "PPO"))]


@pytest.mark.parametrize("path", [*CLASSES, "stable_baselines3.td3.td3.TD3", "mtrl.algo.TaskReplayBuffer"])
def test_the_source_says_of_a_class_what_its_import_does(path):
    read, imported = describe(path), _imported(path)
    standard = {"object", "ABC", "Generic"}
    bases = [
        [base for base in each.bases if base.split(".")[-1] not in standard] for each in (read, imported)
    ]
    assert bases[0] == bases[1]
    assert read.arguments.keys() == imported.arguments.keys()


@pytest.mark.parametrize("option", ["sac", "td3", "ddpg"])
def test_the_arguments_that_a_class_must_take_are_those_that_it_is_given(option):
    foreign = ["algo.cls=stable_baselines3.SAC", "algo.adam_epsilon=1e-8"] if option == "sac" else []
    cfg = compose_run(["experiment=smoke", f"algo={option}", *foreign]).config
    typed = {each.name for each in fields(cfg.algo)} - {*OWN_OPTIONS, "cls", "kwargs"}
    assert arguments_of(cfg, 2, "cpu", "off").keys() == typed - {"updates", "updates_per", "n_steps"} | {
        *GIVEN
    }


@pytest.mark.parametrize(
    ("annotation", "fitting", "other"),
    [
        ("int", [1, -1], [1.5, True, "1", None, [1]]),
        ("float", [1, 1.5], [True, "a", None]),
        ("bool", [True], [1, "true"]),
        ("str | None", ["a", None], [1, False]),
        ("Optional[int]", [1, None], ["a"]),
        ("Union[float, typing.Optional[str]]", [1, None, "a"], [[1]]),
        ("int | tuple[int, str]", [1, [1, "step"]], [1.5, {}]),
        ("dict[str, Any] | None", [{}, None], [[], 1]),
        ("", [1, "a"], []),
        ("ActionNoise | None", [1, {"a": 1}], []),
    ],
)
def test_a_value_fits_the_plain_types_of_an_annotation(annotation, fitting, other):
    assert [fits(value, annotation) for value in fitting + other] == [True] * len(fitting) + [False] * len(
        other
    )


SB3 = "algo.cls=stable_baselines3."
REFUSED = {
    f"{SB3}PPO": "does not learn from a replay buffer",
    f"{SB3}SACK": "has no attribute 'SACK'",
    f"{SB3}nope.SAC": "No module named 'stable_baselines3.nope'",
    f"{SB3}DQN": "does not take ent_coef, target_entropy",
    f"{SB3}td3.TD3": "use algo=td3",
    f"algo=ddpg {SB3}td3.td3.TD3": "use algo=td3",
    "algo.cls=mtrl.algo.TaskReplayBuffer": "does not learn from a replay buffer",
    "algo.cls=..x": "does not exist",
    "algo.kwargs.nope=1": "not an argument of mtrl.algo.SAC",
    "algo.kwargs.self=1": "algo.kwargs.self is not an argument",
    "algo.kwargs._init_setup_model=false": "_init_setup_model is not an argument",
    "algo.buffer_size=2e6 algo.batch_size=2000000 variant.critic_layers=[4096,4096]": "GiB with batches of 2000000",
    "algo.kwargs.use_sde=true": "not for the networks of mtrl.algo.SAC",
    "algo.kwargs.target_update_interval=abc": "target_update_interval=abc must be of the type int",
    "algo.kwargs.target_update_interval=1.5": "must be of the type int",
    "algo.kwargs.verbose=[1]": "must be of the type int",
    f"{SB3}SAC algo.kwargs.use_sde=3": "must be of the type bool",
    f"{SB3}SAC algo.kwargs.tensorboard_log=3": "must be of the type str | None",
    "algo.reward_scale=1e308": "at most 1e+06",
    "algo.reward_scale=1e-300": "at least 1e-06",
    "algo.max_reward_ratio=1e300": "at most 1e+06",
    "algo.learning_rate=1e308": "at most 10",
    "algo.adam_epsilon=1e300": "at most 10",
    "algo.ent_coef=1e308": "must be auto or a number",
    "algo.ent_coef=auto_1e308": "must be auto or a number",
    "algo.target_entropy=-1e308": "must be auto or a number",
    "algo.updates=1e9": "at most 1000",
    "algo.n_steps=100000": "at most 500",
    "variant.critic_layers=[1000000000]": "take 145.3 GiB",
    "variant.actor_layers=[1000000000,1000000000]": "would take 3,725,290,443.7 GiB",
    f"variant.actor_layers={[1] * 65}".replace(" ", ""): "of at most 64",
    f"variant.critic_layers={[16384] * 60}".replace(" ", ""): "critic_layers need up to",
}
COMPOSE = """
import json, sys, time
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run
answers = {}
for words in json.loads(sys.argv[1]):
    started = time.process_time()
    try:
        answer = compose_run(["experiment=smoke", "variant=shared", *words.split()]) and "accepted"
    except ConfigurationError as error:
        answer = str(error)
    answers[words] = [answer, time.process_time() - started, "torch" in sys.modules]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers():
    command = [sys.executable, "-c", COMPOSE, json.dumps(list(REFUSED))]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    return json.loads(found.stdout)


@pytest.mark.parametrize(("words", "said"), REFUSED.items())
def test_mistakes_of_a_learner_are_refused_before_torch_is_imported(answers, words, said):
    answer, seconds, with_torch = answers[words]
    assert said in answer
    assert "\n" not in answer
    assert seconds < 2
    assert not with_torch
