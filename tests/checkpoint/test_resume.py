"""A run that was interrupted and continued is the run that was not, bit for bit."""

import json

import pytest
from forked_runs import assert_same, run_here
from tiny import TINY as LIGHT
from tiny import interrupt_at

from mtrl.rundir.checkpoints import verify
from mtrl.signals import Signals

REPLACED = ("variant=", "checkpoint.every=", "hardware.backend=")
TINY = [*(words for words in LIGHT if not words.startswith(REPLACED)), "checkpoint.every=1000"]
TINY.append("hardware.threads=1")


def start(output, *overrides, code=0):
    """Return the files of a run that ends with an exit code."""
    ended, run = run_here(output, *overrides, base=TINY)
    assert ended == code
    return run


def whole_and_resumed(tmp_path, monkeypatch, overrides, interruptions):
    """Return a run, and the same run interrupted at the steps given."""
    whole = start(tmp_path / "whole", *overrides)
    interrupt_at(monkeypatch, interruptions)
    for code in (*(143 for _ in interruptions), 0):
        resumed = start(tmp_path / "resumed", *overrides, code=code)
    starts = [entry["step"] for entry in resumed.status()["starts"]]
    assert len(set(starts)) == len(interruptions) + 1
    assert starts == sorted(starts)
    return whole, resumed


STOCK = ["hardware.backend=stock", "hardware.workers=1"]
WORKERS = ["hardware.backend=stock", "hardware.workers=2"]
NATIVE = ["hardware.backend=native"]
NORMALISED = ["env.normalize_observations=true", "env.normalize_reward=true"]
EVERY_OPTION = [
    *("algo.temperature=per_task", "algo.balanced_batches=true", "algo.reward_scaling=per_task"),
    *("algo.n_steps=3", "env.copies_per_task=2"),
]
SCALED_BY_RETURNS = [
    "algo.reward_scaling=return",
    "algo.decay_factor=0.5",
    "algo.decay_steps=[100,400]",
    "algo.reward_scales_every=7",
    "env.copies_per_task=2",
]
# In mid-episode before the first update, and where an evaluation is due.
TWICE, ONCE = [26, 160], [160]


def case(name, *overrides, at=TWICE, slow=False):
    return pytest.param(overrides, at, id=name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(
    ("overrides", "interruptions"),
    [
        case("sac-native", *NATIVE, "algo=sac", slow=True),
        case("sac-native-normalised", *NATIVE, "algo=sac", *NORMALISED, slow=True),
        case("sac-stock-normalised", *STOCK, "algo=sac", *NORMALISED),
        case("sac-workers", *WORKERS, "algo=sac", slow=True),
        # Each start of worker processes takes seconds.
        case("td3-workers-normalised-once", *WORKERS, "algo=td3", *NORMALISED, at=ONCE),
        case("td3-workers-normalised", *WORKERS, "algo=td3", *NORMALISED, slow=True),
        case("sac-workers-normalised", *WORKERS, "algo=sac", *NORMALISED, slow=True),
        case("ddpg-workers", *WORKERS, "algo=ddpg", slow=True),
        case("td3-native-normalised", *NATIVE, "algo=td3", *NORMALISED, slow=True),
        case("ddpg-native", *NATIVE, "algo=ddpg", slow=True),
        case("td3-native", *NATIVE, "algo=td3", "variant=shared", slow=True),
        case("td3-stock-n-steps", *STOCK, "algo=td3", "algo.n_steps=3", slow=True),
        case("ddpg-native-normalised", *NATIVE, "algo=ddpg", "variant=plain", *NORMALISED),
        case("ddpg-stock", *STOCK, "algo=ddpg", slow=True),
        case("sac-overlap", *NATIVE, "algo=sac", "algo.overlap=true", "algo.updates=0.4"),
        case("sac-every-option", *NATIVE, "algo=sac", *EVERY_OPTION),
        case("sac-scaled-by-returns", *NATIVE, "algo=sac", *SCALED_BY_RETURNS),
        case("sb3-sac", *NATIVE, "algo.cls=stable_baselines3.SAC", "variant=shared", slow=True),
    ],
)
def test_a_continued_run_is_the_uninterrupted_one(tmp_path, monkeypatch, overrides, interruptions):
    assert_same(*whole_and_resumed(tmp_path, monkeypatch, overrides, interruptions))


SEQUENTIAL = ["curriculum=sequential", "curriculum.min_steps=60", "curriculum.thresholds=[0.0]"]
ADAPTIVE = ["curriculum=adaptive", "curriculum.copies=1"]
FIRST_AND_SECOND_STAGE = [50, 110]


@pytest.mark.parametrize(
    ("overrides", "interruptions"),
    [
        case("all", *NATIVE, *SEQUENTIAL, "curriculum.replay=[all]", at=FIRST_AND_SECOND_STAGE),
        case("none", *NATIVE, *SEQUENTIAL, "curriculum.replay=[none]", at=FIRST_AND_SECOND_STAGE, slow=True),
        case("workers", *WORKERS, *SEQUENTIAL, at=FIRST_AND_SECOND_STAGE, slow=True),
        case("workers-once", *WORKERS, *SEQUENTIAL, "total_steps=120", at=[110]),
        # One copy plays both tasks in turn.
        case("adaptive-one-copy", *NATIVE, *ADAPTIVE, at=FIRST_AND_SECOND_STAGE),
    ],
)
def test_a_curriculum_continues_where_it_was(tmp_path, monkeypatch, overrides, interruptions):
    curriculum = [*overrides, "curriculum.check_every=40", "curriculum.check_episodes=1"]
    runs = whole_and_resumed(tmp_path, monkeypatch, curriculum, interruptions)
    assert_same(*runs, transitions=120)


def test_a_transfer_continues_where_it_was(tmp_path, monkeypatch):
    few = ["task=null", "env.tasks=[push-v3,reach-v3]", "total_steps=120"]
    source = start(tmp_path / "source", *NATIVE, *few).path
    words = [
        *NATIVE,
        f"transfer.source={source}",
        "transfer.parts=[actor,critic,temperature,optimiser,replay]",
        # The actor is held still across both interruptions, the temperature until between them.
        "transfer.freeze_steps.actor=180",
        "transfer.freeze_steps.temperature=100",
    ]
    whole, resumed = whole_and_resumed(tmp_path, monkeypatch, words, TWICE)
    assert_same(whole, resumed)
    assert json.loads(whole.text("lineage.json")) == json.loads(resumed.text("lineage.json"))
    transfer = whole.status()["transfer"]
    assert transfer == resumed.status()["transfer"]
    assert transfer["transitions"] > 0
    assert verify(resumed.checkpoints[-1]).lineage["origins"] == transfer["origins"]


def test_signals_are_remembered_once_and_twice_means_now(monkeypatch):
    exit_codes = []
    monkeypatch.setattr("os._exit", exit_codes.append)
    with Signals() as signals:
        signals._handle(15, None)
        signals._handle(15, None)
        assert (signals.received, exit_codes) == (15, [])
        signals._handle(12, None)
        assert exit_codes == []
        signals._handle(2, None)
        assert exit_codes == [130]
