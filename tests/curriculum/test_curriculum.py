"""Curricula advance by themselves, continue where a run stopped, and real runs follow them to the last stage."""

import errno
import json
from contextlib import ExitStack

import numpy as np
import pytest
from tiny_runs import rows, status

from mtrl.algo.replay import TaskReplayBuffer
from mtrl.curriculum.curriculum import Curriculum
from mtrl.curriculum.stages import stages_of
from mtrl.env.make import make_vec_env
from mtrl.experiment import compose_run
from mtrl.tasks import MT3, MT10
from mtrl.training import callbacks
from mtrl.training.callbacks import Logs


def config(*overrides):
    return compose_run(overrides).config


def stages(path):
    return {int(row["step"]): int(row["stage"]) for row in rows(path / "metrics.csv")}


def at_step(path, step):
    return [
        [row for row in rows(path / name) if row["step"] == step]
        for name in ("metrics.csv", "evaluation.csv")
    ]


@pytest.fixture
def open_env():
    """Return a function that makes two copies of each of some tasks, with episodes of four steps."""
    with ExitStack() as opened:

        def make(tasks):
            env = make_vec_env(tasks, 2, seed=1, backend="native", horizon=4, threads=1)
            opened.callback(env.close)
            return env

        yield make


@pytest.fixture
def env(open_env):
    return open_env(["reach-v3", "push-v3"])


def begun(env, *overrides, tasks="reach-v3,push-v3"):
    words = [
        f"env.tasks=[{tasks}]",
        "env.horizon=4",
        "curriculum.check_every=100",
        "curriculum.min_steps=250",
    ]
    curriculum = Curriculum(config("experiment=mt3", *words, *overrides), env)
    env.reset()
    curriculum.first_episodes_began()
    return curriculum


def measured(tasks, episodes):
    return dict.fromkeys(tasks, 0.0)


def test_a_stage_ends_at_its_threshold_but_not_before_its_minimum(env):
    curriculum = begun(env, "curriculum=sequential")
    checks = [step for step in range(4, 420, 4) if curriculum.check(step, measured)]
    assert checks == [252, 300, 400]
    assert curriculum.advance(400, {0: 0.69}) is None
    transition = curriculum.advance(500, {0: 0.7})
    assert (transition["ended"], transition["begun"], transition["steps"]) == (0, 1, 500)
    assert "threshold" in transition["why"]
    # The last stage has no threshold, so nothing is looked at any more.
    assert not any(curriculum.check(step, measured) for step in range(504, 2000, 4))
    assert "last stage" in curriculum.summary()


def test_a_stage_ends_after_its_steps_where_it_does_not_pass(env):
    curriculum = begun(env, "curriculum=sequential", "curriculum.steps=[1000]")
    assert curriculum.advance(996, {0: 0.25}) is None
    assert "did not pass stage 0 of 1" in curriculum.summary()
    assert "25%" in curriculum.summary()
    transition = curriculum.advance(1000, None)
    assert transition["begun"] == 1
    assert "1,000 steps" in transition["why"]


def test_start_stage_begins_later_and_a_run_without_stages_has_no_curriculum(env):
    assert stages_of(config("experiment=mt3")) == ()
    curriculum = begun(env, "curriculum=sequential", "curriculum.start_stage=1")
    assert curriculum.stage == 1
    _, _, _, infos = env.step(np.zeros((4, 4), dtype=np.float32))
    assert [info["task_id"] for info in infos] == [1, 1, 1, 1]


@pytest.mark.parametrize("kind", ["sequential", "adaptive"])
def test_state_survives_json(env, kind):
    curriculum = begun(env, f"curriculum={kind}")
    curriculum.advance(300, {0: 0.3, 1: 0.1})
    curriculum.advance(400, {0: 0.9, 1: 0.2})
    other = begun(env, f"curriculum={kind}")
    other.set_state(json.loads(json.dumps(curriculum.get_state())))
    assert other.get_state() == curriculum.get_state()
    assert other.summary() == curriculum.summary()


def test_an_adaptive_stage_begun_by_hand_plays_its_own_tasks(env):
    stages = "curriculum.stages=[[reach-v3],[push-v3]]"
    curriculum = begun(env, "curriculum=adaptive", stages, "curriculum.thresholds=[0.9]")
    curriculum.advance(300, {0: 0.2})
    assert "did not pass stage 0 of 1" in curriculum.summary()
    curriculum.go_to(1, 400, "because curriculum.start_stage=1")
    curriculum.advance(700, {1: 0.0})
    assert curriculum.rotation.weights == [0, 1]
    assert "last stage" in curriculum.summary()


def test_adaptive_moves_towards_failing_and_learning_tasks_and_forgets_none(open_env):
    curriculum = begun(open_env(MT3), "curriculum=adaptive", tasks=",".join(MT3))
    for step in range(1, 30):
        curriculum.advance(step, {0: 1.0, 1: 0.0, 2: min(1.0, step / 10)})
        reach, push, pick = curriculum.rotation.weights
        if step == 8:
            assert reach < pick < push + 0.1
    assert sum(curriculum.rotation.weights) == pytest.approx(1)
    assert push > 0.6
    assert min(curriculum.rotation.weights) >= curriculum.cfg.floor / 3 - 1e-9


SHORT = ["hardware.backend=native", "env.horizon=10", "evaluation.horizon=10", "curriculum.check_episodes=1"]
TEN = [*SHORT, "experiment=mt10", "algo=sac", "curriculum.thresholds=[0]", "curriculum.min_steps=50"]
TEN += ["curriculum.check_every=50", "total_steps=600", "evaluation.every=500", "checkpoint.every=5000"]
THREE = [*SHORT, "experiment=mt3", "curriculum=sequential", "logging.every=30"]
CHECKED = [*THREE, "curriculum.min_steps=30", "curriculum.check_every=30", "algo.batch_size=60"]
CHECKED += ["evaluation.every=1000"]
STAGED = [*THREE, "curriculum.steps=[120]", "curriculum.thresholds=[null]", "algo.learning_starts=60"]
STAGED += ["algo.batch_size=30", "evaluation.every=10000"]


@pytest.fixture(scope="module")
def runs(train, tmp_path_factory):
    output = tmp_path_factory.mktemp("curricula")
    return {name: train(output, *TEN, f"curriculum={name}") for name in ("sequential", "progressive")}


@pytest.mark.parametrize(("name", "n_stages"), [("sequential", 10), ("progressive", 5)])
def test_a_curriculum_over_ten_tasks_runs_to_its_last_stage(runs, name, n_stages):
    path = runs[name]
    assert status(path)["state"] == "finished"
    curriculum = status(path)["curriculum"]
    assert [transition["begun"] for transition in curriculum["transitions"]] == list(range(1, n_stages))
    assert all(transition["steps"] >= 50 for transition in curriculum["transitions"])
    assert "last stage" in curriculum["summary"]
    logged = list(stages(path).values())
    assert logged == sorted(logged)
    assert logged[-1] == n_stages - 1
    saved = sorted(folder.name for folder in (path / "checkpoints").glob("stage_*"))
    assert saved == [f"stage_{stage}" for stage in range(n_stages - 1)]
    assert {row["task"] for row in rows(path / "evaluation.csv")} == set(MT10)
    log = (path / "run.log").read_text()
    assert f"stage {n_stages - 2} ended after" in log
    assert "reached its threshold of 0%" in log
    # Tasks that the first stage does not play have no success rate in its row.
    first = rows(path / "metrics.csv")[0]
    assert first["success_rate/reach-v3"] != ""
    assert first["success_rate/peg-insert-side-v3"] == ""


def test_fewer_copies_than_tasks_train_too(train, tmp_path):
    path = train(tmp_path, *TEN, "curriculum=mixed", "curriculum.copies=2", "total_steps=200")
    assert status(path)["curriculum"]["stage"] >= 2


@pytest.mark.parametrize("kept", [None, "tasks", pytest.param("none", marks=pytest.mark.slow)])
def test_a_run_continued_in_a_stage_is_the_run_in_one_go(train, tmp_path, kept):
    # Stages of 120 steps: the first start ends in the middle of one.
    words = [*CHECKED, "curriculum.steps=[120]", "curriculum.thresholds=[1]"]
    if kept:
        words += ["algo.balanced_batches=true", "algo.n_steps=3", f"curriculum.replay=[{kept},{kept}]"]
    whole = train(tmp_path / "whole", *words, "total_steps=360")
    halves = train(tmp_path / "halves", *words, "total_steps=210")
    before = status(halves)["curriculum"]
    assert train(tmp_path / "halves", *words, "total_steps=360") == halves
    assert status(halves)["starts"][-1]["step"] == 210
    assert status(halves)["curriculum"] == status(whole)["curriculum"] != before
    assert stages(halves).items() >= stages(whole).items()
    assert all(at_step(whole, "360"))
    assert at_step(halves, "360") == at_step(whole, "360")


def test_a_stopped_run_is_advanced_by_hand_and_says_where_that_leads(train, tmp_path, capsys, caplog):
    words = [*CHECKED, "curriculum.thresholds=[1]"]
    path = train(tmp_path, *words, "total_steps=90")
    capsys.readouterr()
    train(tmp_path, *words, "total_steps=90", "curriculum.start_stage=2")
    advice = "with a larger total_steps, the run continues in stage 2 (curriculum.start_stage)"
    assert f"it ended in stage 0: {advice}" in capsys.readouterr().out
    assert status(path)["curriculum"]["stage"] == 0
    assert "did not pass stage 0 of 2" in status(path)["curriculum"]["summary"]
    assert train(tmp_path, *words, "total_steps=180", "curriculum.start_stage=2") == path
    (transition,) = status(path)["curriculum"]["transitions"]
    assert (transition["ended"], transition["begun"], transition["step"]) == (0, 2, 90)
    assert "start_stage" in transition["why"]
    assert (path / "checkpoints" / "stage_0" / "model.zip").is_file()
    logged = stages(path)
    assert logged[90] == 0
    assert logged[120] == logged[180] == 2
    train(tmp_path, *words, "total_steps=210", "curriculum.start_stage=1")
    assert "curriculum.start_stage=1 is earlier than the current stage 2; the run stays there" in caplog.text
    assert status(path)["curriculum"]["stage"] == 2


def test_a_stage_is_drawn_where_it_began_and_a_full_disk_keeps_only_its_model(
    train, tmp_path, monkeypatch, caplog
):
    drawn, original = [], Logs.mirror

    def mirror(self, group, values, step):
        if group == "curriculum" and "stage" in values:
            drawn.append((step, values["stage"]))
        original(self, group, values, step)

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Logs, "mirror", mirror)
    monkeypatch.setattr(callbacks, "save_model", full)
    path = train(tmp_path, *CHECKED, "curriculum.steps=[60]", "curriculum.thresholds=[1]", "total_steps=180")
    transitions = status(path)["curriculum"]["transitions"]
    assert drawn == [(transition["step"], transition["begun"]) for transition in transitions]
    assert len(drawn) == 2
    assert (status(path)["state"], status(path)["curriculum"]["stage"]) == ("finished", 2)
    assert "the model of the stage could not be saved" in caplog.text


REACH, PUSH = map(MT3.index, ("reach-v3", "push-v3"))
"""The tasks of the first two stages."""


@pytest.fixture
def draws(monkeypatch):
    """Return a list that gets (transitions held, first number drawn, tasks drawn) of each batch."""
    seen, drawn = [], []
    sample, gather = TaskReplayBuffer.sample, TaskReplayBuffer._get_samples

    def gathered(self, rows, env=None):
        drawn.append(rows)
        return gather(self, rows, env)

    def watched(self, *arguments, **named):
        batch = sample(self, *arguments, **named)
        # No run here overwrites a transition, so rows are numbers.
        assert self.total_added <= self.buffer_size
        seen.append((self.total_added, drawn[-1].min(), set(batch.tasks.tolist())))
        return batch

    monkeypatch.setattr(TaskReplayBuffer, "_get_samples", gathered)
    monkeypatch.setattr(TaskReplayBuffer, "sample", watched)
    return seen


@pytest.mark.parametrize(
    ("kept", "oldest", "algo", "options"),
    [
        ("none", 120, "sac", []),
        ("tasks", 0, "sac", ["algo.balanced_batches=true", "algo.n_steps=3", "algo.temperature=per_task"]),
        ("none", 120, "sac", ["variant=multihead", "algo.balanced_batches=true", "algo.overlap=true"]),
        pytest.param("tasks", 0, "td3", ["algo.n_steps=3"], marks=pytest.mark.slow),
        ("none", 120, "ddpg", []),
    ],
)
def test_a_stage_learns_from_what_it_keeps(train, tmp_path, draws, kept, oldest, algo, options):
    words = [*STAGED, f"algo={algo}", *options, f"curriculum.replay=[{kept}]", "total_steps=240"]
    train(tmp_path, *words)
    before = [tasks for held, _, tasks in draws if held <= 120]
    assert before
    assert set.union(*before) == {REACH}
    # The episodes of the first stage end within 10 vector steps; a batch of the second is there after 20.
    after = [(first, tasks) for held, first, tasks in draws if held > 120 + 60]
    assert after
    assert all(tasks == {PUSH} for _, tasks in after)
    assert min(first for first, _ in after) >= oldest


def test_all_is_drawn_from_where_nothing_is_said(train, tmp_path, draws):
    train(tmp_path, *STAGED, "total_steps=240")
    assert set.union(*(tasks for held, _, tasks in draws if held > 180)) == {REACH, PUSH}
