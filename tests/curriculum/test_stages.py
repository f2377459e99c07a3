"""The stages that a configuration declares, and the sentences that refuse them."""

import shutil
from itertools import pairwise

import numpy as np
import pytest

from mtrl.config import compose
from mtrl.curriculum.stages import notices, stages_of
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run, run_directory
from mtrl.start import summary
from mtrl.tasks import DIFFICULTY


def config(*overrides):
    return compose_run(overrides).config


def names(cfg):
    return [[cfg.env.tasks[task] for task in stage.tasks] for stage in stages_of(cfg)]


def test_sequential_takes_the_tasks_by_difficulty_which_can_be_overridden_and_added():
    assert names(config("experiment=mt10", "curriculum=sequential")) == [[task] for task in DIFFICULTY]
    cfg = config("experiment=mt10", "curriculum=sequential", "curriculum.difficulty={reach-v3: 9}")
    assert names(cfg)[-1] == ["reach-v3"]
    tasks = "env.tasks=[reach-v3,sweep-v3,push-v3]"
    cfg = config("experiment=mt3", tasks, "curriculum=sequential", "curriculum.difficulty.sweep-v3=1.5")
    assert names(cfg) == [["reach-v3"], ["sweep-v3"], ["push-v3"]]


def test_progressive_has_the_stages_and_thresholds_of_its_description():
    cfg = config("experiment=mt10", "curriculum=progressive")
    stages = stages_of(cfg)
    assert [len(stage.tasks) for stage in stages] == [1, 3, 6, 8, 10]
    assert [stage.threshold for stage in stages] == [0.7, 0.6, 0.5, 0.4, None]
    assert (cfg.curriculum.min_steps, cfg.curriculum.check_every) == (200_000, 10_000)
    for smaller, larger in pairwise(stages):
        assert set(smaller.tasks) < set(larger.tasks)


def test_mixed_adds_one_task_at_a_time():
    stages = names(config("experiment=mt10", "curriculum=mixed"))
    assert [len(stage) for stage in stages] == list(range(3, 11))
    assert stages[0] == list(DIFFICULTY)[:3]


# Of each phase of the predecessor the length in million steps, and the shares of the tasks in percent.
PREDECESSOR = {
    "mt3": (
        [9, 3, 3, 3, 3],
        [[50, 50, 0], [20, 70, 10], [0, 100, 0], [13.3, 53.3, 33.3], [13.3, 40, 46.7], [6.7, 33.3, 60]],
    ),
    "mt10": (
        [3, 3, 6, 3, 6],
        [
            [10, 10, 10, 10, 10, 10, 10, 10, 10, 10],
            [6.7, 13.3, 13.3, 13.3, 6.7, 6.7, 6.7, 13.3, 6.7, 13.3],
            [3.3, 16.7, 16.7, 16.7, 3.3, 3.3, 3.3, 16.7, 3.3, 16.7],
            [3.3, 33.3, 6.7, 10, 3.3, 3.3, 3.3, 6.7, 3.3, 26.7],
            [3.3, 30, 3.3, 6.7, 3.3, 3.3, 3.3, 10, 3.3, 33.3],
            [10, 6.7, 0, 10, 10, 10, 10, 0, 10, 33.3],
        ],
    ),
}


@pytest.mark.parametrize("experiment", PREDECESSOR)
def test_weighted_has_the_phases_of_the_predecessor_for_each_set(experiment):
    stages, (lengths, shares) = (
        stages_of(config(f"experiment={experiment}", "curriculum=weighted")),
        PREDECESSOR[experiment],
    )
    assert [stage.steps for stage in stages[:-1]] == [1e6 * length for length in lengths]
    # Thirty copies, as the predecessor had: each share is a whole number of them.
    slots, theirs = np.array([stage.weights for stage in stages]) * 30, np.array(shares) * 0.3
    np.testing.assert_allclose(slots, slots.round(), atol=1e-9)
    np.testing.assert_array_equal(slots.round(), theirs.round())
    np.testing.assert_allclose(slots, theirs, atol=0.02)


THREE = """\
defaults:
  - none

name: three
stages:
  - [reach-v3]
  - {reach-v3: 1, push-v3: 2}
  - [reach-v3, push-v3, pick-place-v3]
thresholds: [0.8, 0.6]
min_steps: 1e4
"""


def test_a_curriculum_is_one_new_file(tmp_path, monkeypatch):
    conf = shutil.copytree(compose.CONF, tmp_path / "conf")
    (conf / "curriculum" / "three.yaml").write_text(THREE)
    monkeypatch.setattr(compose, "CONF", conf)
    composition = compose_run(["experiment=mt3", "curriculum=three", "curriculum.check_episodes=5"])
    stages = stages_of(composition.config)
    assert [stage.threshold for stage in stages] == [0.8, 0.6, None]
    assert stages[1].weights == pytest.approx((1 / 3, 2 / 3, 0))
    assert composition.config.curriculum.min_steps == 10_000
    assert "curriculum=three" in str(run_directory(composition))
    with pytest.raises(ConfigurationError, match="did you mean three"):
        compose_run(["experiment=mt3", "curriculum=tree"])


def test_stages_of_ones_own_come_from_the_command_line():
    stages = "curriculum.stages=[[reach-v3],{reach-v3:1,push-v3:3}]"
    ends = ("curriculum.thresholds=[null]", "curriculum.steps=[1e4]")
    first, last = stages_of(config("experiment=mt3", stages, *ends))
    assert (first.weights, first.threshold, first.steps) == ((1, 0, 0), None, 10_000)
    assert last.weights == (0.25, 0.75, 0)


def table(text):
    return ["env.tasks=[reach-v3]", f"curriculum.tables=[{text}]"]


REFUSED = [
    (["curriculum.stages=[[sweep-v3]]"], "not a task of this run"),
    (["curriculum.stages=[[rech-v3]]"], "did you mean reach-v3"),
    (["curriculum.stages=[{reach-v3:0}]"], "sum to 0"),
    (["curriculum.stages=[{reach-v3:-1,push-v3:3}]"], "at least 0"),
    (["curriculum.stages=[[reach-v3],[push-v3]]"], "nothing ends stage 0"),
    (["curriculum=sequential", "curriculum.thresholds=[1.2]"], "can never be met"),
    (["curriculum=sequential", "curriculum.thresholds=[0.5,0.5,0.5]"], "give 2"),
    (["curriculum=sequential", "curriculum.replay=[none,all,all]"], "give 2 .the first stage has none"),
    (["curriculum=sequential", "curriculum.replay=[some]"], "not one of all, tasks, none"),
    (["curriculum=sequential", "curriculum.start_stage=3"], "stages are 0 to 2"),
    (["curriculum=progressive"], "not a task of this run"),
    (["curriculum=weighted", "env.tasks=[reach-v3,push-v3]"], "has no stages for this set"),
    (["curriculum=mixed", "env.tasks=[reach-v3,push-v3]"], "starts with 3 tasks"),
    (["curriculum=sequential", "env.tasks=[reach-v3,sweep-v3]"], "sweep-v3 has no difficulty"),
    (["curriculum.copies=2"], "needs a curriculum"),
    (["curriculum.start_stage=2"], "curriculum.start_stage=2 needs a curriculum"),
    (["curriculum.thresholds=[0.5]", "curriculum.stages=[]"], "thresholds=.0.5. needs a curriculum"),
    (["curriculum.steps=[100]"], "steps=.100. needs a curriculum"),
    (["curriculum.replay=[none]"], "replay=.'none'. needs a curriculum"),
    (["curriculum=progressive", "curriculum.stages=[]"], "was left without stages"),
    (["curriculum=weighted", "curriculum.tables=[]"], "was left without stages"),
    (["curriculum.stages=[[reach-v3,reach-v3]]"], "names reach-v3 twice.*give weights as .reach-v3: 2"),
    (["curriculum=sequential", "curriculum.floor=0.5"], "belongs to curriculum=adaptive"),
    (table("{steps:[5],stages:[[reach-v3],{reach-v3:a}]}"), r"tables.0..stages.1.: the weight a of reach-v3"),
    (
        table("{steps:[5],stages:[[reach-v3],{reach-v3:true}]}"),
        "the weight True of reach-v3 must be a number",
    ),
    (table("{steps:[5],stages:[[reach-v3],{reach-v3:0}]}"), r"stages.1. has weights that sum to 0"),
    (table("{steps:[5],stages:[reach-v3,5]}"), r"has them for 2 tasks .reach-v3, 5, "),
    (table("{steps:[5],stages:[]}"), "has them for 0 tasks"),
    (table("{steps:[5,6],stages:[[reach-v3],[reach-v3]]}"), "steps has 2 values for 2 stages: give 1"),
    (table("{steps:5,stages:[[reach-v3],[reach-v3]]}"), "one step count for each but the last"),
    (table("{steps:[-5],stages:[[reach-v3],[reach-v3]]}"), "steps=-5 must be at least 1"),
    (table("{steps:[1.5],stages:[[reach-v3],[reach-v3]]}"), "steps=1.5 must be a whole number"),
    (table("{steps:[null],stages:[[reach-v3],[reach-v3]]}"), "steps=None must be a whole number"),
    (table("{steps:[5]}"), r"tables.0. needs stages=.* and steps="),
    (table("[reach-v3]"), r"tables.0. needs stages=.* and steps="),
]


@pytest.mark.parametrize(("overrides", "words"), REFUSED)
def test_a_curriculum_that_cannot_be_played_is_refused(overrides, words):
    with pytest.raises(ConfigurationError, match=words) as refusal:
        config("experiment=mt3", *overrides)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("recipe", "fix"), [("mt1", "curriculum=none for one task"), ("mt3", "curriculum=sequential")]
)
def test_progressive_over_other_tasks_is_refused_in_the_words_that_chose_it(recipe, fix):
    with pytest.raises(ConfigurationError) as refusal:
        config(f"experiment={recipe}", "curriculum=progressive")
    sentence = str(refusal.value)
    assert sentence.startswith("curriculum=progressive has stages for the ten tasks of MT10")
    assert "experiment=mt10" in sentence
    assert fix in sentence
    # Nobody has set a stage by its number.
    assert "curriculum.stages[" not in sentence
    with pytest.raises(ConfigurationError, match=r"curriculum.stages\[0\] names foo"):
        config(f"experiment={recipe}", "curriculum=progressive", "curriculum.stages=[[foo]]")


def test_a_named_curriculum_plays_every_task_and_stages_of_ones_own_may_leave_some_out():
    with pytest.raises(ConfigurationError, match=r"plays 15 of the 25 tasks \(coffee-pull-v3, "):
        config("experiment=mt25", "curriculum=progressive")
    own = config("experiment=mt3", "curriculum.stages=[[reach-v3,push-v3]]")
    assert notices(own) == ["no stage plays pick-place-v3: only evaluations do"]
    assert notices(config("experiment=mt3", "curriculum.stages=[[reach-v3,push-v3,pick-place-v3]]")) == []


@pytest.mark.parametrize(
    ("total", "overrides", "said"),
    [
        ("200_001", [], []),
        ("100_000", [], ["stage 2 cannot begin before step 100,000, and the run ends at 100,000"]),
        ("50_000", [], ["stage 1 cannot begin before step 50,000, and the run ends at 50,000"]),
        ("50_000", ["curriculum.start_stage=1"], ["stage 2 cannot begin before step 50,000"]),
        ("50_000", ["curriculum.steps=[10_000]"], []),
        ("50_000", ["curriculum.thresholds=[null]", "curriculum.steps=[30_000]"], ["stage 2 cannot"]),
    ],
)
def test_stages_out_of_reach_are_said_in_the_summary(total, overrides, said):
    composition = compose_run(["experiment=mt3", "curriculum=sequential", f"total_steps={total}", *overrides])
    lines = [line for line in summary(composition, "here").splitlines() if "curriculum: stage" in line]
    assert len(lines) == len(said)
    assert all(words in line for words, line in zip(said, lines, strict=True))


@pytest.mark.parametrize(
    ("given", "stages"),
    [("[]", ["all"] * 3), ("[none]", ["all", "none", "none"]), ("[tasks,all]", ["all", "tasks", "all"])],
)
def test_each_stage_but_the_first_says_what_it_keeps(given, stages):
    cfg = config("experiment=mt3", "curriculum=sequential", f"curriculum.replay={given}")
    assert [stage.replay for stage in stages_of(cfg)] == stages
