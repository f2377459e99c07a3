"""What the stages of a real run keep of the replay."""

import csv
import json

import pytest
from test_curriculum import config

from mtrl.algo.replay import TaskReplayBuffer
from mtrl.curriculum.stages import stages_of

STAGED = (
    "experiment=mt3",
    "hardware.backend=native",
    "env.horizon=10",
    "curriculum=sequential",
    "curriculum.steps=[120]",
    "curriculum.thresholds=[null]",
    "algo.learning_starts=60",
    "algo.batch_size=30",
    "evaluation.every=10000",
    "logging.every=30",
)


@pytest.mark.parametrize(
    ("given", "stages"),
    [("[]", ["all"] * 3), ("[none]", ["all", "none", "none"]), ("[tasks,all]", ["all", "tasks", "all"])],
)
def test_each_stage_but_the_first_says_what_it_keeps(given, stages):
    cfg = config("experiment=mt3", "curriculum=sequential", f"curriculum.replay={given}")
    assert [stage.replay for stage in stages_of(cfg)] == stages


@pytest.fixture
def draws(monkeypatch):
    """Return a list that gets (transitions held, first number drawn, tasks drawn) of each batch."""
    seen = []
    draw = TaskReplayBuffer._draw

    def watched(self, batch_size):
        rows, balanced = draw(self, batch_size)
        # No run here overwrites a transition, so rows are numbers.
        assert self.total_added <= self.buffer_size
        seen.append((self.total_added, rows.min(), set(self.tasks[rows].int().tolist())))
        return rows, balanced

    monkeypatch.setattr(TaskReplayBuffer, "_draw", watched)
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
    order = [stage.tasks[0] for stage in stages_of(config("experiment=mt3", "curriculum=sequential"))]
    before = [tasks for held, _, tasks in draws if held <= 120]
    assert before
    assert set.union(*before) == {order[0]}
    # The episodes of the first stage end within 10 vector steps; a batch of the second is there after 20.
    after = [(first, tasks) for held, first, tasks in draws if held > 120 + 60]
    assert after
    assert all(tasks == {order[1]} for _, tasks in after)
    assert min(first for first, _ in after) >= oldest


def test_all_is_drawn_from_where_nothing_is_said(train, tmp_path, draws):
    train(tmp_path, *STAGED, "total_steps=240")
    order = [stage.tasks[0] for stage in stages_of(config("experiment=mt3", "curriculum=sequential"))]
    assert set.union(*(tasks for held, _, tasks in draws if held > 180)) == {order[0], order[1]}


@pytest.mark.parametrize("kept", [pytest.param("none", marks=pytest.mark.slow), "tasks"])
def test_a_run_continued_in_a_stage_is_the_run_in_one_go(train, tmp_path, kept):
    words = [*STAGED, "algo.balanced_batches=true", "algo.n_steps=3", f"curriculum.replay=[{kept},{kept}]"]
    whole = train(tmp_path / "whole", *words, "total_steps=360")
    halves = train(tmp_path / "halves", *words, "total_steps=210")
    assert train(tmp_path / "halves", *words, "total_steps=360") == halves
    assert json.loads((halves / "status.json").read_text())["starts"][-1]["step"] == 210
    for name in ("metrics.csv", "evaluation.csv"):
        of_whole, of_halves = (rows(path / name) for path in (whole, halves))
        last = [row for row in of_whole if row["step"] == "360"]
        assert last
        assert [row for row in of_halves if row["step"] == "360"] == last


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))
