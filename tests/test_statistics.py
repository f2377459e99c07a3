import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from mtrl import statistics

EXPECTED = json.loads((Path(__file__).parent / "data" / "rliable.json").read_text())
ATARI = json.loads((Path(__file__).parent / "data" / "atari_100k.json").read_text())
TOLERANCE = 0.005


def human_normalised(name):
    """Return the scores ``(runs, games)`` of a published agent, 0 for a random one and 1 for a human."""
    columns = [
        (np.array(scores) - ATARI["random"][game]) / (ATARI["human"][game] - ATARI["random"][game])
        for game, scores in ATARI["scores"][name].items()
    ]
    return np.stack(columns, axis=1)


def assert_aggregates(scores, expected, exact):
    """Hold both aggregates of ``scores`` and their intervals to those of rliable."""
    for key, aggregate in (("iqm", statistics.interquartile_mean), ("mean", statistics.mean_score)):
        assert aggregate(scores) == pytest.approx(expected[key], abs=exact)
        interval = statistics.bootstrap_interval(aggregate, scores, repetitions=20_000)
        assert interval == pytest.approx(expected[f"{key}_interval"], abs=TOLERANCE)


def assert_improvement(ours, theirs, expected, exact):
    probability = statistics.probability_of_improvement(ours, theirs)
    assert probability == pytest.approx(expected["probability"], abs=exact)
    interval = statistics.bootstrap_interval(
        statistics.probability_of_improvement, ours, theirs, repetitions=20_000
    )
    assert interval == pytest.approx(expected["interval"], abs=TOLERANCE)


def test_aggregates_equal_the_published_examples_of_rliable():
    published = EXPECTED["published"]
    for name in ("x", "y"):
        found = statistics.interquartile_mean(published[name]), statistics.mean_score(published[name])
        assert found == pytest.approx((published[f"iqm_{name}"], published[f"mean_{name}"]), abs=1e-12)
    improvement = statistics.probability_of_improvement(published["x"], published["y"])
    assert improvement == pytest.approx(published["improvement_x_over_y"], abs=1e-6)


@pytest.mark.parametrize("expected", [*EXPECTED["aggregates"].values(), *EXPECTED["pairs"].values()])
def test_aggregates_probabilities_of_improvement_and_their_intervals_agree_with_rliable(expected):
    if "scores" in expected:
        assert_aggregates(np.array(expected["scores"]), expected, 1e-5)
    else:
        assert_improvement(expected["ours"], expected["theirs"], expected, 1e-5)


@pytest.mark.parametrize("name", ATARI["scores"])
def test_aggregates_of_atari_equal_what_was_published_and_their_intervals_agree_with_rliable(name):
    """Real scores, with outliers far above 1; a published mean tells that the scores are the right ones."""
    scores, published = human_normalised(name), ATARI["published"][name]
    assert scores.shape == (5, 26)
    assert statistics.mean_score(scores) == pytest.approx(published["mean"], abs=5e-4)
    if "median" in published:
        assert np.median(scores.mean(axis=0)) == pytest.approx(published["median"], abs=1e-12)
    assert_aggregates(scores, ATARI["rliable"][name], 1e-6)


def test_probability_of_improvement_on_atari_agrees_with_rliable():
    ours, theirs = human_normalised("IRIS"), human_normalised("SimPLe")
    assert_improvement(ours, theirs, ATARI["rliable"]["IRIS over SimPLe"], 1e-6)


def test_the_band_of_a_curve_is_the_interval_of_its_points():
    scores = np.array(EXPECTED["aggregates"]["success_rates_five_seeds"]["scores"])
    low, high = statistics.bootstrap_band(np.stack([scores, 1 - scores], axis=-1), repetitions=20_000)
    expected = EXPECTED["aggregates"]["success_rates_five_seeds"]["mean_interval"]
    assert (low[0], high[0]) == pytest.approx(expected, abs=TOLERANCE)
    assert (low[1], high[1]) == pytest.approx((1 - expected[1], 1 - expected[0]), abs=TOLERANCE)


def test_wilson_interval_equals_scipys_takes_arrays_and_refuses_what_is_no_count():
    counts = np.array([(0, 50), (1, 10), (37, 50), (50, 50), (499, 500)])
    expected = [binomtest(*pair).proportion_ci(0.95, method="wilson") for pair in counts.tolist()]
    assert pytest.approx(np.array(expected), abs=1e-12) == np.array(statistics.wilson_interval(*counts.T)).T
    for pair, said in (((0, 0), "at least one episode"), ((11, 10), "more successes than episodes")):
        with pytest.raises(ValueError, match=said):
            statistics.wilson_interval(*pair)


def test_one_run_has_no_interval_and_other_tasks_are_no_comparison():
    for function, *scores in (
        (statistics.bootstrap_interval, statistics.mean_score, [[0.1, 0.2]]),
        (statistics.bootstrap_interval, statistics.mean_score, [[0.1]], [[0.1], [0.2]]),
        (statistics.bootstrap_band, np.zeros((1, 2, 3))),
    ):
        with pytest.raises(ValueError, match="two runs or more"):
            function(*scores)
    with pytest.raises(ValueError, match="numbers of tasks"):
        statistics.probability_of_improvement(np.zeros((2, 3)), np.zeros((2, 4)))


def test_equal_scores_give_equal_intervals_and_large_tables_are_resampled_in_pieces():
    scores = np.random.default_rng(3).random((10, 50))
    interval = partial(statistics.bootstrap_interval, statistics.interquartile_mean, scores, repetitions=9000)
    first = interval()
    assert first == interval()
    assert first[0] < statistics.interquartile_mean(scores) < first[1]


def test_area_between_curves_is_the_mean_lead_over_common_steps():
    area = statistics.area_between_curves
    assert area([0, 10], [0, 1], [0, 10], [0, 0]) == pytest.approx(0.5)
    assert area([0, 5, 20], [0.2, 0.2, 0.2], [10, 30], [0.7, 0.7]) == pytest.approx(-0.5)
    # Crossing curves cancel, whatever grid each was evaluated on.
    assert area([0, 10], [0, 1], [0, 3, 10], [1, 0.7, 0]) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="share no range"):
        area([0, 1], [0, 1], [2, 3], [0, 1])


def test_steps_to_threshold_is_the_first_evaluation_that_reaches_it():
    assert statistics.steps_to_threshold([10, 20, 30], [0.1, 0.8, 0.4], 0.8) == 20
    assert statistics.steps_to_threshold([10, 20, 30], [0.1, 0.8, 0.4], 0.9) is None
    assert statistics.steps_to_threshold([], [], 0.5) is None
