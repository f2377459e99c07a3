"""Whatever the moment a run is killed at, what is visible is whole and the continued run is the whole one."""

import json
import random
import signal
import time
from functools import partial

import pytest
import tiny
from forked_runs import ForkedRun, assert_same, forked, run_files
from tiny import TINY

from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run
from mtrl.start import run_one

META_WORLD = [*TINY, "hardware.workers=1"]


@pytest.mark.parametrize(
    ("kills", "meta_world"),
    [
        (20, False),
        (3, True),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(300, False), (30, True)]),
    ],
)
def test_kills_at_random_moments(whole, tmp_path, kills, meta_world):
    base, (first, last), of_a_run = (META_WORLD, (0.3, 2.5), 6) if meta_world else (TINY, (0.05, 0.65), 12)
    if meta_world:
        forked(tmp_path / "whole", base=base, tiny=False)
        whole = run_files(tmp_path / "whole", base=base)
    moments, number, left_over = random.Random(kills), 0, kills
    while left_over > 0:
        number += 1
        output, of_this_run = tmp_path / str(number), min(left_over, of_a_run)
        left = run_files(output, base=base)
        while True:
            delay = moments.uniform(first, last) if of_this_run > 0 else None
            answer = forked(output, base=base, tiny=not meta_world, kill_after=delay, code=None)
            if answer.code == 0:
                break
            assert answer.code == -9, answer.printed
            of_this_run, left_over = of_this_run - 1, left_over - 1
            step = left.verify()
            rows = whole.text("metrics.csv").splitlines()[1:]
            certain = [row for row in rows if int(row.split(",")[0]) <= step]
            if left.path.joinpath("metrics.csv").exists():
                assert left.text("metrics.csv").splitlines()[1 : len(certain) + 1] == certain
        assert_same(left, whole)


@pytest.mark.parametrize(
    "points",
    [[4, 33, 52, 74], pytest.param(range(1, 140), marks=pytest.mark.slow)],
)
def test_a_death_at_any_write_to_the_disk(whole, tmp_path, points):
    for point in points:
        output = tmp_path / str(point)
        answer = forked(output, fault=partial(tiny.die_at_write, point), code=None)
        left = run_files(output)
        if answer.code == 0:
            # The run wrote fewer times than that.
            assert_same(left, whole)
            continue
        assert answer.code == 99, answer.printed
        left.verify()
        forked(output)
        assert_same(left, whole)
        assert not list(left.path.rglob(".tmp-*")) + list(left.path.rglob(".old-*"))


def test_a_second_run_in_a_directory_is_refused_and_a_dead_holder_frees_it(tmp_path):
    left = run_files(tmp_path)
    holder = ForkedRun(tmp_path, fault=lambda: tiny.at_step(60, lambda _: time.sleep(60)))
    try:
        deadline = time.monotonic() + 30
        while not ((left.path / "status.json").exists() and left.status()["checkpoint"] == 40):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        host, before = json.loads(left.text("run.lock"))["host"], left.text("status.json")
        with pytest.raises(ConfigurationError, match=rf"in use by process {holder.pid} on {host}"):
            run_one(compose_run([*TINY, f"output={tmp_path}"]))
        assert left.text("status.json") == before
    finally:
        assert holder.end(0).code == -signal.SIGKILL
    forked(tmp_path)
