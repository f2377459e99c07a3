"""Whole runs on tiny budgets: what they leave, that a seed repeats them, when they stop, what is best."""

import json
import re

import numpy as np
import pytest
import stable_baselines3
import yaml
from tiny_runs import TINY, rows, status

import mtrl
from mtrl.__main__ import main
from mtrl.algo.make import update_schedule
from mtrl.algo.sac import SAC
from mtrl.config.compose import groups
from mtrl.env.make import make_vec_env
from mtrl.errors import ConfigurationError
from mtrl.evaluation.protocol import Evaluation, TaskResult
from mtrl.experiment import compose_run
from mtrl.rundir.models import step_checkpoints
from mtrl.training import callbacks

TWO = ("experiment=mt3", "env.tasks=[reach-v3,push-v3]")
CLASSES = {"sac": SAC, "td3": stable_baselines3.TD3, "ddpg": stable_baselines3.DDPG}
NAMES = [name for name in groups()["experiment"] if not name.startswith("transfer/")]
# mt25 shows what mt50 does, with half the environments; test_paper.py compares in what the paper's runs differ.
COVERED = {"mt50", *(name for name in NAMES if name.startswith("paper/"))}
COVERED -= {"paper/mt1_reach", "paper/mt10_multihead_curriculum"}
RECIPES = [pytest.param(name, marks=[pytest.mark.slow] if name in COVERED else []) for name in NAMES]
SHORT = ("total_steps=200", "evaluation.every=1000")


@pytest.mark.parametrize("experiment", RECIPES)
def test_every_experiment_runs(train, tmp_path, experiment):
    words = [f"experiment={experiment}", "evaluation.every=1000"]
    if experiment == "paper/mt3_transfer":
        # Its source would train 5M steps; here it is a run of its own that is as short.
        source = train(tmp_path, "experiment=paper/mt1_pick_place", "evaluation.every=1000")
        words += ["transfer.train=[]", f"transfer.source={source}"]
    directory = train(tmp_path, *words)
    assert directory.parent.parent == tmp_path / experiment
    tasks = yaml.safe_load((directory / "config.yaml").read_text())["env"]["tasks"]
    last = rows(directory / "evaluation.csv")[-len(tasks) :]
    assert [row["task"] for row in last] == tasks
    assert {(row["step"], row["episodes"], row["mean_length"]) for row in last} == {("300", "2", "20")}
    assert status(directory)["state"] == "finished"


def test_evaluations_have_their_own_horizon(train, tmp_path, capsys):
    directory = train(tmp_path, *TWO, "evaluation.horizon=30")
    assert "horizon 20, evaluated at 30" in capsys.readouterr().out
    assert {row["mean_length"] for row in rows(directory / "evaluation.csv")} == {"30"}
    lengths = [row["episode_length/reach-v3"] for row in rows(directory / "metrics.csv")]
    assert set(lengths) - {""} == {"20"}
    assert mtrl.load(directory).horizon == 30
    # The configuration of an earlier version lacks the key: the protocol's own length holds.
    config = yaml.safe_load((directory / "config.yaml").read_text())
    del config["evaluation"]["horizon"]
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    assert mtrl.load(directory).horizon == 500


@pytest.fixture(scope="module")
def runs(train, tmp_path_factory):
    """Return a function that gives the run of an algorithm and a variant, made once."""
    made = {}

    def run(algo, variant):
        if (algo, variant) not in made:
            output = tmp_path_factory.mktemp(f"{algo}-{variant}")
            made[algo, variant] = train(output, *TWO, f"algo={algo}", f"variant={variant}")
        return made[algo, variant]

    return run


@pytest.mark.parametrize("variant", ["plain", "shared", "multihead"])
@pytest.mark.parametrize("algo", CLASSES)
def test_every_algorithm_learns_with_every_variant_and_its_saved_model_acts_the_same(runs, algo, variant):
    directory = runs(algo, variant)
    metrics = rows(directory / "metrics.csv")
    assert [int(row["step"]) for row in metrics] == [100, 200, 300]
    assert int(metrics[-1]["updates"]) > 0
    assert np.isfinite([float(metrics[-1][f"loss/{part}"]) for part in ("actor", "critic")]).all()
    none, *values = (row["q_value"] for row in metrics)
    assert none == ""
    assert len({*values}) == 2
    # Rewards of the first steps are below 1 and the critics have made 200 updates at most.
    assert all(abs(float(value)) < 10 for value in values)
    model = CLASSES[algo].load(step_checkpoints(directory)[-1] / "model.zip", device="cpu")
    env = make_vec_env(["reach-v3", "push-v3"], 1, seed=1, horizon=20, task_id=variant != "plain")
    returns = np.zeros(2)
    for goal in (0, 1):
        env.env_method("set_task", 0, goal, indices=[0])
        env.env_method("set_task", 1, goal, indices=[1])
        obs = env.reset()
        for _ in range(20):
            obs, reward, _, _ = env.step(model.predict(obs, deterministic=True)[0])
            returns += reward / 2
    env.close()
    evaluated = rows(directory / "evaluation.csv")
    assert [(row["step"], row["episodes"]) for row in evaluated] == [("150", "1")] * 2 + [("300", "2")] * 2
    final = evaluated[-2:]
    np.testing.assert_allclose([float(row["mean_return"]) for row in final], returns, rtol=1e-4)


def test_the_run_directory_and_its_files_hold_what_they_should(runs):
    directory = runs("sac", "shared")
    assert re.fullmatch(r".+-[0-9a-f]{8}", directory.parent.name)
    assert directory.name == "seed=1"
    expected = "config.yaml environment.json status.json metrics.csv evaluation.csv timing.csv run.log"
    assert {*expected.split(), "checkpoints"} <= {path.name for path in directory.iterdir()}
    assert yaml.safe_load((directory / "config.yaml").read_text())["algo"]["batch_size"] == 150
    environment = json.loads((directory / "environment.json").read_text())
    assert {"versions", "git", "processor", "command", "host", "python"} <= environment.keys()
    assert environment["versions"]["stable-baselines3"]
    facts = status(directory)
    assert (facts["state"], facts["step"], facts["total_steps"]) == ("finished", 300, 300)
    assert facts["hardware"]["device"] == "cpu"
    assert facts["starts"][0]["step"] == 0
    last = rows(directory / "evaluation.csv")[-2:]
    mean = np.mean([float(row["mean_return"]) for row in last])
    assert facts["result"]["mean_return"] == pytest.approx(mean, rel=1e-6)
    assert {path.name for path in (directory / "checkpoints").iterdir()} >= {"best", "step_300"}
    metrics = rows(directory / "metrics.csv")[-1]
    for task in ("reach-v3", "push-v3"):
        assert 0 <= float(metrics[f"success_rate/{task}"]) <= 1
        assert float(metrics[f"return/{task}"]) > 0
        assert metrics[f"episode_length/{task}"] == "20"
    assert all(metrics[name] for name in ("loss/actor", "loss/critic", "temperature", "q_value"))
    # 300 environment steps of two copies are 7 whole episodes of 20 each.
    assert int(metrics["episodes"]) == 14
    assert [*last[0]] == ["step", "task", "goals", "episodes", "success_rate", "mean_return", "mean_length"]


def test_time_is_split_into_fractions_that_are_all_of_it(runs):
    timing = rows(runs("sac", "shared") / "timing.csv")
    assert [int(row["step"]) for row in timing] == [100, 200, 300]
    previous = 0.0
    for row in timing:
        shares = [float(row[name]) for name in ("environment", "learning", "evaluation")]
        assert sum(shares) == pytest.approx(1, abs=1e-6)
        assert all(-1e-9 <= share <= 1 for share in shares)
        seconds = float(row["seconds"])
        assert float(row["steps_per_second"]) * (seconds - previous) == pytest.approx(100, rel=0.2)
        previous = seconds
    assert [float(row["evaluation"]) > 0 for row in timing] == [False, True, True]
    assert [float(row["learning"]) > 0 for row in timing] == [False, True, True]


@pytest.mark.parametrize(("algo", "variant"), [("sac", "multihead"), ("td3", "shared")])
def test_one_seed_gives_one_result_and_another_seed_another(runs, train, tmp_path, algo, variant):
    first = runs(algo, variant)
    words = (*TWO, f"algo={algo}", f"variant={variant}")
    again, other = train(tmp_path, *words), train(tmp_path, *words, "seed=2")
    for name in ("metrics.csv", "evaluation.csv"):
        assert (again / name).read_text() == (first / name).read_text()
        assert (other / name).read_text() != (first / name).read_text()


def test_neither_the_backend_nor_the_workers_change_what_is_learned(runs, train, tmp_path):
    first = runs("sac", "multihead")
    again = train(tmp_path, *TWO, "variant=multihead", "hardware.backend=stock", "hardware.workers=2")
    assert status(first)["hardware"]["backend"] == "native"
    for name in ("metrics.csv", "evaluation.csv"):
        assert (again / name).read_text() == (first / name).read_text()


def test_a_run_prints_its_result_and_tensorboard_mirrors_its_csv_files_of_held_out_goals(
    train, tmp_path, capsys
):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ("task=reach-v3", "logging.tensorboard=true", "evaluation.goals=heldout")
    directory = train(tmp_path, *words, *SHORT)
    shown = capsys.readouterr().out
    for word in ("reach-v3", "success", "200 environment steps", f"run directory: {directory}"):
        assert word in shown
    assert {row["goals"] for row in rows(directory / "evaluation.csv")} == {"heldout"}
    events = EventAccumulator(str(directory / "tensorboard"))
    events.Reload()
    for name in ("training/success_rate/reach-v3", "training/return/reach-v3", "timing/steps_per_second"):
        assert name in events.Tags()["scalars"]
    evaluation = rows(directory / "evaluation.csv")[-1]
    mirrored = events.Scalars("evaluation_heldout/return/reach-v3")[-1]
    assert (mirrored.step, mirrored.value) == (200, pytest.approx(float(evaluation["mean_return"]), rel=1e-5))


class Results:
    """Stands in for the evaluation and gives one result after the other."""

    def __init__(self, *pairs):
        self.pairs, self.episodes = list(pairs), []

    def __call__(self, act, env, tasks, episodes, goals, only):
        self.episodes.append(episodes)
        success, mean_return = self.pairs.pop(0)
        row = TaskResult(tasks[0], goals, episodes, success, mean_return, 20.0)
        return Evaluation((row,))


def test_the_best_model_is_that_of_most_success_and_ties_go_by_return(train, tmp_path, monkeypatch):
    results = Results((0.0, 99.0), (0.5, 10.0), (0.5, 20.0), (0.5, 15.0), (0.4, 500.0))
    monkeypatch.setattr(callbacks, "evaluate", results)
    directory = train(tmp_path, "task=reach-v3", "total_steps=250", "evaluation.every=50")
    score = json.loads((directory / "checkpoints" / "best" / "score.json").read_text())
    assert score == {"step": 150, "success_rate": 0.5, "mean_return": 20.0}
    assert not results.pairs
    best = SAC.load(directory / "checkpoints" / "best" / "model.zip", device="cpu")
    assert best.num_timesteps == 150


def test_a_run_stops_when_an_official_evaluation_is_solved_and_not_before(train, tmp_path, monkeypatch):
    """A small evaluation only raises the question: at step 50 the official one denies it."""
    results = Results((0.95, 1.0), (0.8, 1.0), (0.5, 1.0), (1.0, 1.0), (0.9, 1.0))
    monkeypatch.setattr(callbacks, "evaluate", results)
    directory = train(tmp_path, "task=reach-v3", "total_steps=400", "evaluation.every=50", "stop.success=0.9")
    assert results.episodes == [1, 2, 1, 1, 2]
    assert not results.pairs
    facts = status(directory)
    assert (facts["state"], facts["step"], facts["result"]["success_rate"]) == ("finished", 150, 0.9)


def test_a_run_stops_at_a_success_that_was_really_measured(train, tmp_path):
    directory = train(tmp_path, "task=reach-v3", "stop.success=0", "env.reward=v1")
    assert (status(directory)["state"], status(directory)["step"]) == ("finished", 150)


def test_updates_are_counted_in_the_unit_asked_for(train, tmp_path):
    # 100 of 200 environment steps are random; two copies make 50 vector steps of the rest.
    for unit, expected in (("vector_step", 25), ("environment_step", 50)):
        words = ("algo.updates=0.5", "algo.overlap=false", f"algo.updates_per={unit}")
        metrics = rows(train(tmp_path, *TWO, *words, *SHORT) / "metrics.csv")
        assert int(metrics[-1]["updates"]) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("updates", "unit", "copies", "schedule"),
    [
        (0.333, "vector_step", 4, (3, 1)),
        (0.333, "environment_step", 10, (3, 10)),
        (1.41, "vector_step", 1, (5, 7)),
        (0.1, "environment_step", 4, (5, 2)),
        (0.4, "vector_step", 1, (5, 2)),
        (1.5, "vector_step", 1, (2, 3)),
        (0.7, "environment_step", 30, (1, 21)),
        (0.001, "vector_step", 4, (1000, 1)),
        (0.005, "vector_step", 1, (200, 1)),
        (1, "environment_step", 500, (1, 500)),
        *((updates, "vector_step", 1, None) for updates in (0.123456, 0.618034, 0.99, 1.011, 2.718282)),
    ],
)
def test_updates_come_in_short_rows_and_their_ratio_is_met_within_a_hundredth(
    updates, unit, copies, schedule
):
    algo = compose_run([f"algo.updates={updates}", f"algo.updates_per={unit}"]).config.algo
    steps, row = update_schedule(algo, copies)
    assert (steps, row) == schedule if schedule else row <= 51
    asked = updates * (copies if unit == "environment_step" else 1)
    assert row / steps == pytest.approx(asked, rel=0.01)


NEUTRAL = (
    *("algo.overlap=false", "algo.temperature=shared", "algo.balanced_batches=false"),
    *("algo.reward_scaling=none", "algo.max_gradient_norm=null", "variant.layer_norm=false"),
)
"""What stable-baselines3's own SAC asks for in the place of our options."""


FOREIGN = (*TWO, "algo.cls=stable_baselines3.SAC", "algo.kwargs.target_update_interval=3", *NEUTRAL)


def test_a_foreign_class_runs_with_arguments_of_its_own(train, tmp_path):
    model = step_checkpoints(train(tmp_path, *FOREIGN, *SHORT))[-1] / "model.zip"
    assert stable_baselines3.SAC.load(model, device="cpu").target_update_interval == 3


@pytest.mark.parametrize("refusal", ["AssertionError", "TypeError", "ValueError"])
def test_a_value_that_a_foreign_class_refuses_is_one_sentence(tmp_path, capsys, refusal):
    words = [*TINY, *TWO, "algo.cls=picky.Picky", *NEUTRAL, f"output={tmp_path}"]
    with pytest.raises(SystemExit, match="2"):
        main([*words, f"algo.kwargs.refusal={refusal}"])
    (error,) = capsys.readouterr().err.splitlines()
    said = f"mtrl: algo.cls=picky.Picky refuses algo.kwargs.refusal={refusal} ({refusal}: not this one)"
    assert error.startswith(said)


def test_what_fails_without_the_arguments_of_a_foreign_class_is_not_blamed_on_them(
    train, tmp_path, monkeypatch
):
    def broken(*_):
        raise ValueError("a bug")

    monkeypatch.setattr("stable_baselines3.SAC._setup_model", broken)
    with pytest.raises(ValueError, match=r"^a bug$") as raised:
        train(tmp_path, *FOREIGN)
    assert not isinstance(raised.value, ConfigurationError)
