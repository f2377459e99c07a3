"""``python -m mtrl.evaluation``: the figures are those of the protocol, and one bad run spoils no other."""

import csv
import io
import json
import re
import shutil

import pytest
import torch
from saved_runs import TASKS, of_version, save_run, with_last
from stable_baselines3 import SAC
from tiny_runs import REPOSITORY, python

from mtrl.env.make import make_vec_env
from mtrl.evaluation.__main__ import main
from mtrl.evaluation.protocol import Evaluation, TaskResult
from mtrl.rundir.run import Run
from mtrl.statistics import wilson_interval

MT2 = ("experiment=mt3", f"env.tasks=[{','.join(TASKS)}]")


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """Return the directory of a run whose last evaluation was of two episodes a task."""
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp("trained"), *MT2, "evaluation.every=1000")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("saved"), *MT2, "seed=5")


def answer(capsys, *words):
    # A test that makes environments first may have compiled them, which prints a line.
    capsys.readouterr()
    code = main([*map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_figures_are_those_of_the_runs_own_last_evaluation(trained, capsys):
    code, out, err = answer(capsys, trained, "--episodes", 2, "--json")
    assert (code, err) == (0, "")
    (run,) = json.loads(out)["runs"]
    logged = Run(trained).evaluation
    assert len(logged) == 2
    for row, task in zip(run["tasks"], TASKS, strict=True):
        last = logged.take(logged["task"] == task)
        assert row["task"] == task
        for name in ("episodes", "success_rate", "mean_length"):
            assert row[name] == last[name][0]
        assert row["mean_return"] == pytest.approx(last["mean_return"][0], rel=1e-7)
        assert row["goals"] == "train"
        low, high = wilson_interval(row["success_rate"] * 2, 2)
        assert (row["low"], row["high"]) == (low, high)
    assert (run["step"], run["horizon"], run["seed"]) == (300, 20, 1)


def test_several_runs_stand_side_by_side_and_csv_has_a_row_a_run_and_task(trained, saved, capsys):
    code, out, _ = answer(capsys, trained, saved, "--episodes", 1)
    assert code == 0
    assert next(line for line in out.splitlines() if "door-open-v3" in line).count("[") == 2
    for word in (*TASKS, "[0, 79]", "mean success", "1 episode a task", "60", "Meta-World's own horizon"):
        assert word in out
    assert "\\" not in out, "what is printed is not read as markup, and needs no escape"
    _, out, _ = answer(capsys, trained, saved, "--episodes", 1, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    expected = [(str(run), task) for run in (trained, saved) for task in TASKS]
    assert [(row["run"], row["task"]) for row in rows] == expected


@pytest.mark.parametrize("copies", [2, 5])
def test_several_runs_are_ranked_with_the_goals_the_steps_and_the_worst_task_of_each(
    saved, tmp_path, capsys, monkeypatch, copies
):
    runs = [with_last(shutil.copytree(saved, tmp_path / str(n)), 1000 + n) for n in range(copies)]
    rates = ((n / copies, 1.0) for n in range(copies))
    outcomes = (
        [TaskResult(task, "heldout", 2, rate, 0.0, 20.0) for task, rate in zip(TASKS, pair, strict=True)]
        for pair in rates
    )
    monkeypatch.setattr("mtrl.evaluation.__main__.evaluate", lambda *_: Evaluation(tuple(next(outcomes))))
    words = ("--episodes", 2, "--goals", "heldout", "--checkpoint", "last")
    _, out, _ = answer(capsys, *runs, *words)
    ranked = [line for line in out.splitlines() if re.search(r"1,00\d", line)]
    assert [re.search(r"1,00(\d)", line)[1] for line in ranked] == [str(n) for n in reversed(range(copies))]
    for n, line in enumerate(reversed(ranked)):
        assert f"{TASKS[0]} {n / copies:.1%} [" in line
        assert f"{(n / copies + 1) / 2:.1%}" in line
        assert "heldout" in line
    assert "2 episodes a task on heldout goals, deterministic, 20 steps" in out
    assert "trained steps" in out


def test_the_best_model_is_played_or_the_last_and_the_table_says_which(saved, tmp_path, capsys):
    run = with_last(shutil.copytree(saved, tmp_path / "run"), 90)
    for words, step, said in (((), 60, True), (("--checkpoint", "last"), 90, False)):
        _, out, _ = answer(capsys, run, "--episodes", 1, *words)
        assert re.search(rf"{run} .* {step} ", out)
        best = "the best model of each run, chosen by the run's own evaluations"
        assert (best in " ".join(out.split())) == said == ("best model" in out)
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "best (the default), which its own evaluations have chosen" in shown


def test_a_sweep_and_a_directory_stand_for_their_runs_and_held_out_goals_are_others(saved, tmp_path, capsys):
    (tmp_path / "plan.txt").write_text(f"1 runs:\n  {saved}\n")
    returns = []
    for source, goals in ((tmp_path, "train"), (saved.parents[2], "heldout")):
        code, out, _ = answer(capsys, source, "--episodes", 1, "--json", "--goals", goals)
        assert code == 0
        (run,) = json.loads(out)["runs"]
        assert run["run"] == str(saved)
        assert {row["goals"] for row in run["tasks"]} == {goals}
        returns.append([row["mean_return"] for row in run["tasks"]])
    assert returns[0] != returns[1]


def test_each_source_without_a_run_is_named_in_one_sentence_and_the_others_are_evaluated(
    saved, tmp_path, capsys
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zip").write_text("no zip")
    sources = (tmp_path / "nowhere", tmp_path / "empty", saved, tmp_path / "file.zip")
    code, out, err = answer(capsys, *sources, "--episodes", 1, "--json")
    assert code == 2
    assert len(json.loads(out)["runs"]) == 1
    lines = err.splitlines()
    assert len(lines) == 3 == len(json.loads(out)["problems"])
    for what in ("nowhere does not exist", "empty holds no run", "file.zip cannot be read"):
        assert sum(what in line for line in lines) == 1


def test_other_horizons_and_versions_are_named(saved, tmp_path, capsys):
    other = of_version(save_run(tmp_path, *MT2, "env.horizon=10", "evaluation.horizon=10"), "0.0.1")
    code, out, err = answer(capsys, saved, other, "--episodes", 1)
    assert code == 0
    # Below the table too, for a table is copied without what stood on standard error.
    assert "note: the runs have different horizons, so nothing compares: 20 and 10" in out
    assert "different horizons, so nothing compares: 20 and 10" in err
    assert "was trained by mtrl 0.0.1" in err


def test_a_zip_of_stable_baselines3_is_played_once_it_is_trusted_and_its_tasks_are_named(tmp_path, capsys):
    env = make_vec_env(["drawer-close-v3"], 1, seed=0, task_id=False, backend="native", threads=1)
    model = SAC("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, buffer_size=10, device="cpu")
    env.close()
    model.save(tmp_path / "theirs.zip")
    path = tmp_path / "theirs.zip"
    for words, sentence in (
        ((), "--trust"),
        (("--trust",), "--tasks"),
        (("--trust", "--tasks", "drawer-close-v3", "--goals", "train"), "--seed"),
    ):
        code, out, err = answer(capsys, path, "--episodes", 1, *words)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert sentence in err
    words = ("--trust", "--tasks", "drawer-close-v3", "--episodes", 1, "--json")
    for seed, goals in (((), "heldout"), (("--seed", 3), "train")):
        code, out, _ = answer(capsys, path, *words, *seed)
        assert (code, json.loads(out)["runs"][0]["tasks"][0]["goals"]) == (0, goals)


@pytest.mark.slow
def test_the_official_evaluation_of_mt10_is_fifty_whole_episodes_of_each_task(tmp_path, capsys):
    run = save_run(tmp_path, "experiment=mt10", "evaluation.horizon=500", "algo.batch_size=100")
    code, out, _ = answer(capsys, run, "--json")
    (result,) = json.loads(out)["runs"]
    assert code == 0
    assert [(row["episodes"], row["mean_length"]) for row in result["tasks"]] == [(50, 500)] * 10


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["run", "--episodes", "0"], 2)])
def test_the_options_are_read_without_torch(words, code):
    result = python("-X", "importtime", "-m", "mtrl.evaluation", *words, cwd=REPOSITORY)
    assert result.returncode == code
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines() if "|" in line}
    assert not imported & {"torch", "mujoco", "stable_baselines3"}
