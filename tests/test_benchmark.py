"""Speeds are compared in turns, and the subcommands print what programs can read."""

import json

import pytest
import torch

from mtrl.benchmark import env
from mtrl.benchmark.__main__ import main
from mtrl.benchmark.checkpoint import show
from mtrl.benchmark.pairing import ratio, take_turns, typical
from mtrl.compose import defaults_of


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


def test_a_checkpoint_is_a_share_of_the_recipe_it_interrupts(capsys):
    threads = torch.get_num_threads()
    small = ["--buffer", "1300", "--new", "100", "--rounds", "1", "--steps", "20"]
    try:
        assert main(["checkpoint", "--json", *small]) == 0
    finally:
        torch.set_num_threads(threads)
    result = json.loads(capsys.readouterr().out)
    default = defaults_of(experiment="mt10").values["checkpoint"]
    interval = min(default["every"] / result["steps_per_second"], 60 * default["minutes"])
    assert result["interval"] == pytest.approx(interval)
    assert result["share"] == pytest.approx(result["seconds"] / interval)
    show(result)
    assert "of training time: one every" in capsys.readouterr().out


def test_an_unknown_subcommand_is_refused(capsys):
    with pytest.raises(SystemExit) as refusal:
        main(["fly"])
    assert refusal.value.code == 2
    assert "env" in capsys.readouterr().err
