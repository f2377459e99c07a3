"""One command trains the source, the run, and the run from scratch; the run then needs its source no more."""

import json
import shutil
import threading
import time
from contextlib import closing

import numpy as np
import pytest
from saved_runs import save_run
from tiny import interrupt_at
from tiny_runs import TINY, status

from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run, run_directory
from mtrl.rundir.lock import RunLock
from mtrl.rundir.models import read_lineage
from mtrl.rundir.run import Run
from mtrl.start import COMPARISON, baseline, run_one, run_with_source_and_baseline
from mtrl.tasks import MT3
from mtrl.transfer.comparison import compare
from mtrl.transfer.start import source_success


def nested(train):
    return f"transfer.train={json.dumps(train)}"


EXPERIMENTS = {
    "reach_to_push": ("reach", "push"),
    "door_to_drawer": ("door-open", "drawer-open"),
    "window_open_to_close": ("window-open", "window-close"),
    "window_close_to_open": ("window-close", "window-open"),
    "drawer_open_to_close": ("drawer-open", "drawer-close"),
    "drawer_close_to_open": ("drawer-close", "drawer-open"),
    "pick_place_to_mt3": ("pick-place", "reach push pick-place"),
}
SHORT = (*TINY, "algo.learning_starts=40", "algo.batch_size=60", "evaluation.final_episodes=1")
OWN = (*TINY, "hardware.backend=native", "logging.progress=off")
NO_EVALUATION = "evaluation.every=1000"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_names_its_source(name):
    composition = compose_run([f"experiment=transfer/{name}"])
    runs = composition.source.config, composition.config
    tasks = (" ".join(run.env.tasks).replace("-v3", "") for run in runs)
    assert tuple(tasks) == EXPERIMENTS[name]
    assert len({(*run.variant.actor_layers, None, *run.variant.critic_layers) for run in runs}) == 1


def test_a_chain_reaches_over_three_runs():
    words = ["experiment=transfer/mt3_to_mt10", nested(["experiment=transfer/pick_place_to_mt3"])]
    last = compose_run([*words, "variant=multihead", "variant.shared_layers=all"])
    middle, first = last.source, last.source.source
    assert [len(run.config.env.tasks) for run in (first, middle, last)] == [1, 3, 10]
    # A single task has no heads, the three have those of the ten.
    assert [run.config.variant.name for run in (first, middle, last)] == ["shared", "multihead", "multihead"]
    assert middle.config.variant.shared_layers == "all"
    assert len({tuple(run.config.variant.critic_layers) for run in (first, middle, last)}) == 1


def test_runs_that_differ_in_their_seed_lie_side_by_side():
    one, two = (compose_run(["experiment=transfer/reach_to_push", f"seed={seed}"]) for seed in (1, 2))
    assert run_directory(one).parent == run_directory(two).parent
    longer = compose_run(["experiment=transfer/reach_to_push", nested(["experiment=mt1", "total_steps=9"])])
    assert run_directory(longer).parent != run_directory(one).parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("chain")
    source = nested(["experiment=mt1", "task=reach-v3", "total_steps=120", "evaluation.every=60"])
    words = [*SHORT, "total_steps=200", "evaluation.every=100", "transfer.baseline=true", source]
    composition = compose_run(["experiment=transfer/reach_to_push", *words, f"output={output}"])
    assert run_with_source_and_baseline(composition) == 0
    return composition


def test_three_runs_of_one_command_name_each_other(tmp_path):
    first = ["experiment=mt1", "total_steps=60", NO_EVALUATION]
    second = ["experiment=mt3", "total_steps=60", NO_EVALUATION, nested(first)]
    third = ["experiment=mt10", "total_steps=60", NO_EVALUATION, nested(second)]
    composition = compose_run([*SHORT, "env.horizon=10", *third, f"output={tmp_path}"])
    assert run_with_source_and_baseline(composition) == 0
    lineage = json.loads((run_directory(composition) / "lineage.json").read_text())
    assert lineage["tasks"] == list(MT3)
    assert lineage["origins"]["pick-place-v3"] == "pick-place-v3"
    assert lineage["origins"]["peg-insert-side-v3"] == "pick-place-v3"
    assert lineage["lineage"]["tasks"] == ["reach-v3"]
    assert lineage["lineage"]["origins"] == dict.fromkeys(MT3, "reach-v3")
    assert lineage["lineage"]["lineage"] is None
    assert lineage["step"] == lineage["lineage"]["step"] == 60
    assert lineage["sha256"] != lineage["lineage"]["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*EXPERIMENTS, "mt3_to_mt10"])
def test_each_experiment_runs(tmp_path, name):
    composed = compose_run([f"experiment=transfer/{name}"])
    train = [*composed.config.transfer.train, "total_steps=60", NO_EVALUATION, "stop.success=null"]
    kept = [words for words in train if not words.startswith("total_steps") or words == "total_steps=60"]
    words = [*SHORT, "total_steps=90", NO_EVALUATION, nested(list(dict.fromkeys(kept)))]
    composition = compose_run([f"experiment=transfer/{name}", *words, f"output={tmp_path}"])
    assert run_with_source_and_baseline(composition) == 0
    status = Run(run_directory(composition)).status
    assert status["state"] == "finished"
    assert status["step"] == 90
    assert status["transfer"]["source_success"].keys() == {"before", "after"}
    assert Run(run_directory(composition.source)).status["step"] == 60


def test_one_command_trains_source_run_and_baseline(finished):
    runs = [finished.source, finished, baseline(finished)]
    assert len({run_directory(run) for run in runs}) == 3
    for run in runs:
        assert Run(run_directory(run)).state == "finished"
    status = Run(run_directory(finished)).status["transfer"]
    assert status["tasks"] == ["reach-v3"]
    assert status["origins"] == {"push-v3": "reach-v3"}
    assert set(status["source_success"]) == {"before", "after"}
    assert set(status["source_success"]["before"]) == {"reach-v3"}
    assert "transfer" not in Run(run_directory(runs[0])).status
    comparison = json.loads((run_directory(finished) / COMPARISON).read_text())
    assert comparison["curves"]["transfer"]["step"] == comparison["curves"]["scratch"]["step"]
    assert comparison["area_between"] == comparison["area"]["transfer"] - comparison["area"]["scratch"]


def test_the_report_shows_both_curves_and_what_was_kept(finished, tmp_path):
    pytest.importorskip("matplotlib")
    from mtrl.report.__main__ import main

    runs = [str(run_directory(run)) for run in (finished, baseline(finished))]
    assert main([*runs, "--out", str(tmp_path)]) == 0
    page = next(tmp_path.glob("*.md")).read_text()
    assert "What was kept of the source" in page
    assert "transfer from" in page
    assert "mean lead while learning" in page


def test_the_same_command_trains_nothing_twice(finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in run_directory(finished).rglob("*.csv")}
    again = compose_run(finished.overrides)
    assert run_with_source_and_baseline(again) == 0
    assert {path: path.stat().st_mtime_ns for path in run_directory(finished).rglob("*.csv")} == before
    assert capsys.readouterr().out.count("this run is finished") == 3


def test_a_dry_run_trains_no_source(tmp_path, capsys):
    composition = compose_run(["experiment=transfer/reach_to_push", "dry_run=true", f"output={tmp_path}"])
    assert run_with_source_and_baseline(composition) == 0
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out.count("run directory") == 2


def test_two_sources_are_refused():
    with pytest.raises(ConfigurationError, match="both name a source"):
        compose_run(["experiment=transfer/reach_to_push", "transfer.source=elsewhere.zip"])


def test_a_run_goes_on_without_its_source_and_without_its_status(tmp_path, monkeypatch, capsys):
    source = save_run(tmp_path / "theirs", "experiment=mt1")
    words = ["experiment=mt1", "task=push-v3", f"transfer.source={source}", f"output={tmp_path / 'own'}"]
    words, states = [*OWN, *words], []
    path = run_directory(compose_run(words))

    def measured(*arguments):
        states.append(status(path)["state"])
        return source_success(*arguments)

    monkeypatch.setattr("mtrl.train.source_success", measured)
    interrupt_at(monkeypatch, [120])
    assert run_with_source_and_baseline(compose_run(words)) == 143
    assert f"begins from {source}: best, step 60" in capsys.readouterr().out
    lineage = read_lineage(path)
    assert (lineage["origins"], lineage["step"]) == ({"push-v3": "reach-v3"}, 60)

    shutil.move(source, tmp_path / "elsewhere")
    (path / "status.json").write_text("torn")
    assert run_with_source_and_baseline(compose_run(words)) == 0
    # The forgetting is measured before the run counts as finished: a finished one is not started again for it.
    assert states == ["running", "running"]
    assert read_lineage(path) == lineage
    assert status(path)["transfer"]["sha256"] == lineage["sha256"]
    assert status(path)["transfer"]["source_success"].keys() == {"before", "after"}

    assert run_with_source_and_baseline(compose_run(words)) == 0
    assert "this run is finished" in capsys.readouterr().out
    for new in ("seed=2", "algo.gamma=0.5", "fresh=true"):
        with pytest.raises(ConfigurationError, match="does not exist"):
            run_with_source_and_baseline(compose_run([*words, new]))
    assert status(path)["state"] == "finished"


def test_a_source_that_another_member_trains_is_waited_for_and_used(tmp_path, capsys):
    words = ["experiment=transfer/reach_to_push", f"output={tmp_path}"]
    source = 'transfer.train=["experiment=mt1","total_steps=60","evaluation.every=60"]'
    composition = compose_run([*OWN, *words, source])
    first = composition.source
    path = run_directory(first)
    held = RunLock(path)

    def another():
        time.sleep(0.5)
        save_run(tmp_path, *first.overrides, steps=60)
        facts = {"state": "finished", "step": 60, "total_steps": 60, "result": {"success_rate": 0.5}}
        (path / "status.json").write_text(json.dumps(facts))
        held.close()

    member = threading.Thread(target=another)
    member.start()
    try:
        assert run_one(first, wait=True) == 0
    finally:
        member.join()
    waiting, *_, finished = capsys.readouterr().out.splitlines()
    assert waiting.startswith("waiting for process ")
    assert str(path) in waiting
    assert "this run is finished: success 50.0% after 60 steps" in finished
    with closing(RunLock(path)), pytest.raises(ConfigurationError, match="is in use by process"):
        run_one(compose_run([*first.overrides, "total_steps=80"]))


def write_run(path, *success):
    """Write a run with a success rate at steps 100, 200, and so on."""
    path.mkdir()
    (path / "config.yaml").write_text("seed: 1\n")
    (path / "status.json").write_text('{"state": "finished"}')
    rows = [f"{100 * number},reach-v3,train,10,{rate},1,500" for number, rate in enumerate(success, 1)]
    header = "step,task,goals,episodes,success_rate,mean_return,mean_length"
    (path / "evaluation.csv").write_text("\n".join([header, *rows]) + "\n")
    return path


def test_areas_and_thresholds_of_known_curves(tmp_path):
    found = compare(write_run(tmp_path / "a", 0.5, 1.0, 1.0), write_run(tmp_path / "b", 0.0, 0.0, 0.5, 1.0))
    assert found["steps"] == [100, 300]
    assert found["area"]["transfer"] == pytest.approx(np.mean([0.75, 1.0]))
    assert found["area"]["scratch"] == pytest.approx(np.mean([0.0, 0.25]))
    steps = {"transfer": {"0.5": 100, "0.8": 200}, "scratch": {"0.5": 300, "0.8": 400}}
    assert found["steps_to"] == steps


def test_a_curve_has_one_kind_of_goals_and_the_official_evaluation_of_each_step(tmp_path):
    transferred, scratch = (write_run(tmp_path / name, 0.5, 0.5) for name in "ab")
    with (transferred / "evaluation.csv").open("a") as file:
        # An official one beside the short one; and goals that the other run was not evaluated on.
        file.write("200,reach-v3,train,50,1.0,1,500\n200,reach-v3,heldout,50,0.0,1,500\n")
    found = compare(transferred, scratch)
    assert found["goals"] == "train"
    assert found["curves"]["transfer"]["success_rate"] == [0.5, 1.0]
    assert found["final"] == {"transfer": 1.0, "scratch": 0.5}
    text = (scratch / "evaluation.csv").read_text()
    (scratch / "evaluation.csv").write_text(text.replace("train", "heldout"))
    assert compare(transferred, scratch)["goals"] == "heldout"
    (transferred / "evaluation.csv").write_text(text)
    with pytest.raises(ConfigurationError, match="no evaluations on the same goals"):
        compare(transferred, scratch)
