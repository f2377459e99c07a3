"""Whatever the moment a run is killed at, what is visible is whole and the continued run is the whole one."""

import random
from functools import partial

import pytest
import tiny
from forked_runs import assert_same, forked, run_files
from tiny import TINY

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
