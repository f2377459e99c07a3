"""Speeds are compared in turns, and the subcommands print what programs can read."""

import json

import pytest
from tiny_runs import TINY

from mtrl.benchmark import env
from mtrl.benchmark.__main__ import main
from mtrl.benchmark.pairing import ratio, take_turns, typical


def test_contenders_take_turns_and_the_first_round_does_not_count():
    order = []

    def contender(name, rates):
        remaining = iter(rates)

        def block():
            order.append(name)
            return next(remaining)

        return block

    rates = take_turns(
        {"one": contender("one", [999, 4, 40, 400]), "other": contender("other", [1, 2, 10, 100])}, rounds=3
    )
    assert rates == {"one": [4, 40, 400], "other": [2, 10, 100]}
    assert order == ["other", "one", "one", "other", "other", "one", "one", "other"]
    assert typical(rates, "one") == 40
    assert ratio(rates, "one", "other") == 4


def test_the_native_step_is_faster_than_stock_and_not_faster_than_physics_by_magic():
    row = env._measure(["push-v3"], 1, 1, 1, subproc=False)
    assert row["native_over_stock"] > 1.5
    # Above 1 can only be noise of a busy machine: native does what physics does, and more.
    assert 0.3 < row["native_over_physics"] < 3


def test_json_is_one_object_with_the_ratios(monkeypatch, capsys):
    speeds = {"reach-v3": 0.5, "push-v3": 1.0}

    def measured(tasks, copies, rounds, threads, subproc):
        speed = speeds[tasks[0]] if len(tasks) == 1 else 0.9
        return {"native_over_physics": speed, "native_over_stock": 4.0, "threads_over_one": 1.5}

    monkeypatch.setattr(env, "_measure", measured)
    assert main(["env", "--json", "--threads", "2", "--tasks", *speeds]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["native_over_physics"] == 0.9
    assert result["native_over_stock"] == 4.0
    assert result["mean_native_over_physics"] == 0.75
    assert result["threads_over_one"] == 1.5


def test_the_time_of_an_evaluation_is_that_of_the_protocol(capsys):
    words = [*TINY, "experiment=mt3", "algo.batch_size=51"]
    assert main(["evaluation", *words, "--rounds", "2", "--episodes", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["tasks"], result["episodes"], result["mean_length"]) == (3, [2] * 3, [20.0] * 3)
    assert min(result["rounds"]) <= result["seconds"] <= max(result["rounds"])
    assert min(result["rounds"]) > 0
    assert main(["evaluation", *words, "--rounds", "1", "--episodes", "1"]) == 0
    assert "3 episodes of 3 tasks, 60 steps: " in capsys.readouterr().out


def test_an_unknown_subcommand_is_refused(capsys):
    with pytest.raises(SystemExit) as refusal:
        main(["fly"])
    assert refusal.value.code == 2
    assert "env" in capsys.readouterr().err
