"""The benchmark of curricula compares a staged run with the same run without stages."""

import json

import pytest
import torch
from tiny_runs import TINY

from mtrl.benchmark.__main__ import main
from mtrl.benchmark.curriculum import CLOCKS

torch.set_num_threads(1)


def test_every_block_with_stages_has_a_transition_and_both_clocks_have_a_ratio(capsys):
    own = [words for words in TINY if not words.startswith(("total_steps", "evaluation.every"))]
    words = [*own, "experiment=mt3", "hardware.backend=native"]
    assert main(["curriculum", "--json", "--rounds", "2", "--steps", "60", *words]) == 0
    result = json.loads(capsys.readouterr().out)
    # Two in the 162 steps that warm up, and one in each of the round that is not counted and two that are.
    assert result["transitions"] == 2 + 3
    assert (result["tasks"], result["copies"]) == (3, 3)
    for clock in CLOCKS:
        row = result[clock]
        low, high = row["range"]
        pairs = [
            one / other for one, other in zip(row["rates"]["staged"], row["rates"]["plain"], strict=True)
        ]
        assert (low, high) == (min(pairs), max(pairs))
        assert low <= row["quartiles"][0] <= row["staged_over_plain"] <= row["quartiles"][1] <= high
        assert row["staged_over_plain"] == pytest.approx(sum(pairs) / 2)
