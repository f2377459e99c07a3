"""Speeds are compared in turns, and the subcommands print what programs can read."""

import json

import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from mtrl.benchmark import env, start
from mtrl.benchmark.__main__ import main
from mtrl.benchmark.pairing import medians, ratio, take_turns
from mtrl.env.metaworld import goal_set, metaworld_task
from mtrl.env.native import cache, mujoco_c
from mtrl.env.native.kernel import simulate
from mtrl.tasks import MT3


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
    assert medians(rates) == {"one": 40, "other": 10}
    assert ratio(rates, "one", "other") == 4


def test_the_native_step_is_faster_than_stock_and_not_faster_than_physics_by_magic():
    row = env._measure(["push-v3"], 1, 1, 1, subproc=False)
    assert row["native_over_stock"] > 1.5
    # Above 1 can only be noise of a busy machine: native does what physics does, and more.
    assert 0.3 < row["native_over_physics"] < 3


def test_physics_alone_is_what_mujoco_computes_and_nothing_else():
    """The compiled loop leads to the state that MuJoCo's Python functions lead to with the same inputs."""
    one, other = (ALL_V3_ENVIRONMENTS["push-v3"]() for _ in "ab")
    for own in (one, other):
        own.set_task(metaworld_task("push-v3", goal_set("push-v3", 0)[0]))
        own.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 4)).astype(np.float32)
    hands, fingers = env._inputs(one, actions)
    for hand, finger in zip(hands, fingers, strict=True):
        one.data.mocap_pos[:], one.data.ctrl[:] = hand, finger
        mujoco.mj_step(one.model, one.data, 5)
        mujoco.mj_forward(one.model, one.data)
    data = other.data
    addresses = [other.model._address, data._address, data.mocap_pos.ctypes.data, data.ctrl.ctypes.data]
    simulate(np.array([addresses]), hands[:, None], fingers[:, None], *mujoco_c.function_addresses())
    np.testing.assert_array_equal(data.qpos, one.data.qpos)
    np.testing.assert_array_equal(data.qvel, one.data.qvel)
    np.testing.assert_array_equal(data.qacc_warmstart, one.data.qacc_warmstart)
    for own in (one, other):
        own.close()


def test_the_ratios_are_one_json_object_or_lines_and_tables(monkeypatch, capsys):
    speeds = {"reach-v3": 0.5, "push-v3": 1.0, "pick-place-v3": 0.75}

    def measured(tasks, copies, rounds, threads, subproc):
        speed = speeds[tasks[0]] if len(tasks) == 1 else 0.9
        return {"native_over_physics": speed, "native_over_stock": 4.0, "threads_over_one": 1.5}

    monkeypatch.setattr(env, "_measure", measured)
    assert main(["env", "--json", "--threads", "2", "--tasks", *list(speeds)[:2]]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["native_over_physics"] == 0.9
    assert result["native_over_stock"] == 4.0
    assert result["mean_native_over_physics"] == 0.75
    assert result["threads_over_one"] == 1.5
    assert result["cores"] >= 1
    assert len(result["load_average"]) == 2
    assert main(["env", "--tasks", *list(speeds)[:2]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "mean_native_over_physics: 0.75" in lines
    assert any(line.startswith("load_average: ") for line in lines)
    (row,) = (line for line in lines if "reach-v3" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == ["reach-v3", "0.5", "4", "1.5"]
    assert any("sets" in line and "native_over_stock" in line for line in lines)
    assert main(["env", "--json", "--tasks", "mt3"]) == 0
    assert list(json.loads(capsys.readouterr().out)["sets"]) == [*MT3, "MT3"]


def test_an_unknown_subcommand_is_refused(capsys):
    with pytest.raises(SystemExit) as refusal:
        main(["fly"])
    assert refusal.value.code == 2
    assert "env" in capsys.readouterr().err


def test_starts_are_timed_with_and_without_compiled_code(monkeypatch, capsys):
    asked = []

    def started(words, cache):
        asked.append((words, cache))
        return 20.0 if len(asked) == 1 else len(asked)

    monkeypatch.setattr(start, "_start", started)
    monkeypatch.setattr(start, "_load", lambda cache: 0.5)
    assert main(["start", "--json", "--rounds", "3", "--sets", "mt10", "--", "seed=2"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["sets"]["mt10"]["first"] == 20
    # Of starts 2, 4, 6 and 3, 5, 7: they take turns.
    assert (result["sets"]["mt10"]["native"], result["sets"]["mt10"]["stock"]) == (4, 5)
    assert result["second_start_adds"] == 0.5
    first, second, third, *_ = [words for words, _ in asked]
    assert first == second == ["experiment=mt10", "seed=2", "hardware.backend=native"]
    assert third[-1] == "hardware.backend=stock"
    assert len({cache for _, cache in asked}) == 1
    assert main(["start", "--rounds", "1", "--sets", "mt10"]) == 0
    assert "second_start_adds: 0.5" in capsys.readouterr().out


@pytest.mark.slow
def test_a_start_lasts_until_the_first_step_of_the_real_command():
    words = [*start.SETS["reach-v3"], "hardware.workers=1", "hardware.backend=stock"]
    assert 0.5 < start._start(words, cache.base_directory()) < 100
    with pytest.raises(RuntimeError, match="horizon"):
        start._start([*words, "env.horizon=501"], cache.base_directory())
    assert 0 < start._load(cache.base_directory()) < 60
