"""A number that is NaN or infinite stops the run before anything learns from it, and is never saved."""

import numpy as np
import pytest
import tiny
import torch._dynamo  # noqa: F401 - what a run with algo=td3 imports late, in every fork otherwise
from forked_runs import assert_same, forked, run_files
from tiny_runs import rows

NORMALISED = ["env.normalize_observations=true", "env.normalize_reward=true"]
KINDS = {"sac": [], "normalised": NORMALISED, "td3": ["algo=td3"]}
FAULTS = ["nan_reward", "nan_observation", "infinite_reward", "infinite_observation"]
# Every fault, and every kind of run.
BROKEN = [
    pytest.param(kind, {fault: 70}, marks=[] if i == k or kind == "sac" else pytest.mark.slow)
    for k, kind in enumerate(KINDS)
    for i, fault in enumerate(FAULTS)
]


@pytest.mark.parametrize(
    ("kind", "order"), [*BROKEN, *((kind, {"fault": lambda: tiny.poison_action(140)}) for kind in KINDS)]
)
def test_what_is_not_finite_never_reaches_the_buffer(tmp_path, kind, order):
    answer, files = forked(tmp_path, *KINDS[kind], **order, code=1), run_files(tmp_path, *KINDS[kind])
    assert "Traceback" not in answer.printed
    assert files.status()["state"] == "failed"
    assert files.verify() == 120
    for _, tensor in (fault.split("_") for fault in order if fault != "fault"):
        message = f"{tensor} of copy 1 of task push-v3 is NaN or infinite at step 140"
        assert message in answer.printed
        assert message in files.status()["reason"]
        if kind != "td3":
            with np.load(files.path / "refused_transition.npz", allow_pickle=False) as transition:
                assert not all(np.isfinite(transition[name]).all() for name in transition.files)
    # Without the fault, the same command continues the run.
    forked(tmp_path, *KINDS[kind], "total_steps=140")
    stored = [value for name, value in files.everything().items() if name.startswith("transition")]
    assert all(np.isfinite(value).all() for value in stored)


@pytest.mark.parametrize(
    ("algo", "fault", "said"),
    [
        ("sac", lambda: tiny.poison_weights(130), "NaN"),
        ("td3", lambda: tiny.poison_weights(130), "NaN"),
        ("sac", lambda: tiny.poison_transitions(130, 1), "critic loss is NaN or infinite at step 130"),
    ],
)
def test_nan_weights_and_losses_are_found_at_once_and_never_saved(tmp_path, algo, fault, said):
    left = run_files(tmp_path, f"algo={algo}")
    assert said in forked(tmp_path, f"algo={algo}", fault=fault, code=1).printed
    assert said in left.status()["reason"]
    assert left.verify() == 120
    weights = [value for value in left.everything().values() if isinstance(value, np.ndarray)]
    assert all(np.isfinite(value).all() for value in weights)


def test_what_a_nan_advises_goes_on_from_the_last_checkpoint(tmp_path):
    answer = forked(tmp_path, fault=lambda: tiny.poison_weights(130), code=1)
    source = next(word for word in answer.printed.split() if word.startswith("transfer.source="))
    for changed in ("algo.learning_rate=1e-4", "algo.max_gradient_norm=1"):
        assert changed.split("=")[0] in answer.printed
        words = [source, changed, "total_steps=20"]
        forked(tmp_path, *words)
        assert run_files(tmp_path, *words).status()["transfer"]["source"] == str(
            run_files(tmp_path).checkpoints[-1] / "model.zip"
        )
    answer = forked(tmp_path / "early", fault=lambda: tiny.poison_weights(20), code=1)
    assert "train from scratch with a lower algo.learning_rate" in answer.printed
    assert "transfer.source" not in answer.printed


def test_a_refused_transition_without_room_costs_neither_the_reason_nor_the_status(tmp_path):
    answer = forked(tmp_path, nan_reward=70, fault=lambda: tiny.no_room_for("refused_transition.npz"), code=1)
    left = run_files(tmp_path)
    assert "Traceback" not in answer.printed
    assert "refused_transition.npz cannot be written" in answer.printed
    assert "reward of copy 1 of task push-v3 is NaN or infinite at step 140" in answer.printed
    assert left.status()["state"] == "failed"
    assert not (left.path / "refused_transition.npz").exists()


def test_a_run_that_stopped_for_a_nan_continues_exactly_without_it(whole, tmp_path):
    forked(tmp_path, fault=lambda: tiny.signal_self(100, 15), code=143)
    # The step that is told is that of the whole run.
    answer = forked(tmp_path, nan_reward=20, code=1)
    assert "reward of copy 1 of task push-v3 is NaN or infinite at step 140" in answer.printed
    forked(tmp_path)
    assert_same(run_files(tmp_path), whole)


def test_an_unstable_simulation_costs_its_episode_and_often_enough_the_run(tmp_path):
    stock = ["hardware.workers=1", "total_steps=240"]
    forked(tmp_path / "seldom", *stock, tiny=False, fault=lambda: tiny.break_simulation(90))
    assert int(rows(run_files(tmp_path / "seldom", *stock).path / "metrics.csv")[-1]["unstable"]) >= 2
    answer = forked(tmp_path / "often", *stock, tiny=False, fault=lambda: tiny.break_simulation(5), code=1)
    assert "broke down" in answer.printed
