"""Whatever the moment a run is killed at, what is visible is whole and the continued run is the whole one."""

import random

import pytest
from forked_runs import assert_same, run_files
from tiny import TINY

META_WORLD = [
    "experiment=smoke",
    "variant=shared",
    "env.horizon=20",
    "total_steps=400",
    "algo.learning_starts=60",
    "algo.batch_size=8",
    "algo.buffer_size=150",
    "variant.actor_layers=[8]",
    "variant.critic_layers=[8]",
    "evaluation.every=150",
    "evaluation.episodes=1",
    "evaluation.final_episodes=1",
    "checkpoint.every=50",
    "logging.every=50",
    "logging.progress=off",
    "logging.tensorboard=false",
    "hardware=cpu",
    "hardware.backend=stock",
    "hardware.workers=1",
    "hardware.torch_threads=1",
]


def kill_until_done(server, output, whole, kills, delays, *, base, tiny):
    """Kill a run again and again until it is done; return the number of kills."""
    left = run_files(output, base=base)
    while True:
        delay = delays() if kills > 0 else None
        answer = server.run(output, base=base, tiny=tiny, kill_after=delay, code=None)
        if answer["code"] == 0:
            break
        assert answer["code"] == -9, answer["printed"]
        kills -= 1
        step = left.verify()
        lines = whole.text("metrics.csv").splitlines()
        certain = [line for line in lines[1:] if int(line.split(",")[0]) <= step]
        if left.path.joinpath("metrics.csv").exists():
            assert left.text("metrics.csv").splitlines()[1 : len(certain) + 1] == certain
    assert_same(left, whole)
    return kills


@pytest.mark.parametrize("kills", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_kills_at_random_moments_of_tiny_runs(server, whole, tmp_path, kills):
    moments = random.Random(kills)
    number = 0
    while kills > 0:
        number += 1
        left_over = kill_until_done(
            server,
            tmp_path / str(number),
            whole,
            min(kills, 12),
            lambda: moments.uniform(0.1, 0.9),
            base=TINY,
            tiny=True,
        )
        kills -= min(kills, 12) - left_over


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_kills_at_random_moments_of_meta_world_runs(server, tmp_path, kills):
    moments = random.Random(kills)
    server.run(tmp_path / "whole", base=META_WORLD, tiny=False)
    whole = run_files(tmp_path / "whole", base=META_WORLD)
    number = 0
    while kills > 0:
        number += 1
        left_over = kill_until_done(
            server,
            tmp_path / str(number),
            whole,
            min(kills, 6),
            lambda: moments.uniform(0.5, 4.0),
            base=META_WORLD,
            tiny=False,
        )
        kills -= min(kills, 6) - left_over


@pytest.mark.parametrize(
    "points",
    [[4, 33, 52, 74], pytest.param(range(1, 140), marks=pytest.mark.slow)],
)
def test_a_death_at_any_write_to_the_disk(server, whole, tmp_path, points):
    for point in points:
        output = tmp_path / str(point)
        answer = server.run(output, call=["die_at_write", [point]], code=None)
        left = run_files(output)
        if answer["code"] == 0:
            # The run wrote fewer times than that.
            assert_same(left, whole)
            continue
        assert answer["code"] == 99, answer["printed"]
        left.verify()
        server.run(output)
        assert_same(left, whole)
        assert not list(left.path.rglob(".tmp-*")) + list(left.path.rglob(".old-*"))
