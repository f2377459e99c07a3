"""A signal costs no step: the run finishes it, saves, and exits with 128 plus the signal's number."""

import random
import signal
import time

import pytest
import tiny
from forked_runs import ForkedRun, assert_same, forked, run_files

from mtrl.signals import HANDLED


@pytest.mark.parametrize("number", HANDLED)
def test_a_signal_in_mid_episode_loses_no_step(whole, tmp_path, number):
    forked(tmp_path, fault=lambda: tiny.signal_self(150, number), code=128 + number)
    left = run_files(tmp_path)
    status = left.status()
    assert (status["state"], status["reason"]) == ("interrupted", signal.Signals(number).name)
    assert status["step"] == left.verify() == 150
    forked(tmp_path)
    assert [start["step"] for start in left.status()["starts"]] == [0, 150]
    assert_same(left, whole)


@pytest.mark.parametrize("step", [160, 240])
def test_a_signal_during_an_evaluation_is_obeyed_and_the_evaluation_made_again(whole, tmp_path, step):
    forked(tmp_path, fault=lambda: tiny.signal_in_evaluation(signal.SIGTERM, step), code=143)
    left = run_files(tmp_path)
    assert left.verify() == step
    assert f"\n{step}," not in left.text("evaluation.csv")
    forked(tmp_path)
    assert_same(left, whole)


def test_a_second_signal_ends_the_run_at_once(tmp_path):
    forked(tmp_path, fault=lambda: tiny.signal_self(150, signal.SIGTERM, signal.SIGINT), code=130)
    assert run_files(tmp_path).verify() == 120


def test_a_signal_to_the_whole_group_leaves_the_workers_until_the_run_is_saved(tmp_path):
    overrides = ["hardware.workers=2", "checkpoint.every=100000", "total_steps=100000", "env.horizon=100"]
    left = run_files(tmp_path, *overrides)
    run, log = ForkedRun(tmp_path, *overrides, tiny=False), left.path / "timing.csv"
    while not (log.exists() and log.stat().st_size > 100):
        time.sleep(0.05)
    run.end(0, signal.SIGTERM, group=True)
    assert run.code == 143, run.printed
    assert left.verify() == left.status()["step"] > 0
    assert run.seconds < 5


@pytest.mark.slow
def test_sixty_signals_at_random_moments(whole, tmp_path):
    moments = random.Random(60)
    count, number, slowest = 0, 0, 0.0
    while count < 60:
        number, done = number + 1, 0
        output = tmp_path / str(number)
        left = run_files(output)
        while True:
            which = moments.choice(HANDLED)
            order = {} if count >= 60 else {"kill_after": moments.uniform(0.05, 0.7), "number": which}
            answer = forked(output, **order, code=None)
            if answer.code == 0:
                break
            if answer.code == -which:
                # It came before the run had begun.
                continue
            assert answer.code == 128 + which, answer.printed
            count += 1
            slowest = max(slowest, answer.seconds)
            assert left.verify() == left.status()["step"] >= done
            done = left.status()["step"]
        starts = [start["step"] for start in left.status()["starts"]]
        assert starts == sorted(starts)
        assert_same(left, whole)
    print(f"60 signals, the slowest obeyed after {slowest:.2f} s, at {time.strftime('%H:%M')}")
    assert slowest < 5
