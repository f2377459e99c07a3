"""A signal costs no step: the run finishes it, saves, and exits with 128 plus the signal's number."""

import random
import signal
import time

import pytest
from forked_runs import assert_same, run_files

NUMBERS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_in_mid_episode_loses_no_step(server, whole, tmp_path, number):
    server.run(tmp_path, call=["signal_self", [150, number]], code=128 + number)
    left = run_files(tmp_path)
    status = left.status()
    assert (status["state"], status["reason"]) == ("interrupted", signal.Signals(number).name)
    assert status["step"] == left.verify() == 150
    server.run(tmp_path)
    assert [start["step"] for start in left.status()["starts"]] == [0, 150]
    assert_same(left, whole)


@pytest.mark.parametrize("step", [160, 240])
def test_a_signal_during_an_evaluation_is_obeyed_and_the_evaluation_made_again(server, whole, tmp_path, step):
    server.run(tmp_path, call=["signal_in_evaluation", [signal.SIGTERM, step]], code=143)
    left = run_files(tmp_path)
    assert left.verify() == step
    assert f"\n{step}," not in left.text("evaluation.csv")
    server.run(tmp_path)
    assert_same(left, whole)


def test_a_second_signal_ends_the_run_at_once(server, tmp_path):
    server.run(tmp_path, call=["signal_self", [150, signal.SIGTERM, signal.SIGINT]], code=130)
    assert run_files(tmp_path).verify() == 120


def test_a_signal_to_the_whole_group_leaves_the_workers_until_the_run_is_saved(server, tmp_path):
    overrides = ["hardware.workers=2", "checkpoint.every=100000", "total_steps=100000", "env.horizon=100"]
    left = run_files(tmp_path, *overrides)
    order = {"kill_when": [str(left.path / "timing.csv"), 100], "kill_after": 0, "signal": signal.SIGTERM}
    answer = server.run(tmp_path, *overrides, tiny=False, group=True, **order, code=143)
    assert left.verify() == left.status()["step"] > 0
    assert answer["seconds"] < 5


@pytest.mark.slow
def test_sixty_signals_at_random_moments(server, whole, tmp_path):
    moments = random.Random(60)
    count, number, slowest = 0, 0, 0.0
    while count < 60:
        number += 1
        output = tmp_path / str(number)
        left = run_files(output)
        done = 0
        while True:
            which = moments.choice(NUMBERS)
            order = {} if count >= 60 else {"kill_after": moments.uniform(0.05, 0.7), "signal": which}
            answer = server.run(output, **order, code=None)
            if answer["code"] == 0:
                break
            if answer["code"] == -which:
                # It came before the run had begun.
                continue
            assert answer["code"] == 128 + which, answer["printed"]
            count += 1
            slowest = max(slowest, answer["seconds"])
            assert left.verify() == left.status()["step"] >= done
            done = left.status()["step"]
        starts = [start["step"] for start in left.status()["starts"]]
        assert starts == sorted(starts)
        assert_same(left, whole)
    print(f"60 signals, the slowest obeyed after {slowest:.2f} s, at {time.strftime('%H:%M')}")
    assert slowest < 5
