"""The benchmarks of the learner measure what they say, on networks small enough for a test."""

import argparse
import json

import pytest
import torch

from mtrl.algo.update import prepare
from mtrl.benchmark import learner, train
from mtrl.benchmark.__main__ import main
from mtrl.experiment import compose_run

torch.set_num_threads(1)

SHORT = ["learner", "--rounds", "1", "--seconds", "0.01", "--sizes", "[256]x3 batch 256"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(learner, "TRANSITIONS", 100)
    monkeypatch.setattr(learner, "_SIZES", {"[256]x3 batch 256": ([8], 20, False)})
    monkeypatch.setattr(learner, "_HEADS", {"batch 20": 20})


def test_learner_benchmark_gives_rates_and_ratios(capsys):
    assert main([*SHORT, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["threads"], result["compile"]) == (1, "off")
    row = result["sizes"]["[256]x3 batch 256"]
    assert result["sac_over_sb3"] == row["ours_over_sb3"] == pytest.approx(row["ours"] / row["sb3"])
    heads = result["heads"]["batch 20"]
    assert result["multihead_over_shared"]["batch 20"] == pytest.approx(heads["multihead"] / heads["shared"])
    assert result["masks_over_shared"]["batch 20"] == pytest.approx(heads["masks"] / heads["shared"])
    assert set(result["variants"]["batch 20"]) == set(learner._VARIANTS)
    assert min(result["variants"]["batch 20"].values()) > 0


def test_loop_over_masks_computes_what_separate_heads_do():
    """Else the comparison would be with something easier."""
    heads = learner.own_sac([256] * 3, 20, "cpu", "off", balanced=True, critic_heads=True, shared_layers=0)
    masks = learner.with_masks(learner.own_sac([256] * 3, 20, "cpu", "off", balanced=True))
    with torch.no_grad():
        for task, single in enumerate(masks.critic.heads):
            for layer, stacked in zip(single.layers, heads.critic.net.layers, strict=True):
                stacked.bias.view(2, 10, 1, -1)[:, task] = layer.bias
                first = layer.weight.shape[1] != 256
                rows = layer.weight[:, [*range(39), *range(49, 53)]] if first else layer.weight
                stacked.weight.view(2, 10, *rows.shape[1:])[:, task] = rows
            single.layers[0].weight[:, 39:49] = 0
    batch = prepare(heads, 20)
    first = heads.critic.q_values(batch.observations, batch.actions, batch.grouping)
    second = masks.critic.q_values(batch.observations, batch.actions, None)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_learner_benchmark_runs_on_a_gpu(capsys):
    assert main([*SHORT, "--json", "--device", "cuda"]) == 0
    assert json.loads(capsys.readouterr().out)["compile"] == "cuda_graph"


def test_train_benchmark_compares_on_one_device(monkeypatch):
    made = {}
    monkeypatch.setattr(train.SAC, "__init__", lambda *args, **kwargs: made.update(kwargs))
    monkeypatch.setattr(train.SAC, "set_logger", lambda *args: None)
    train._stock_agent(compose_run(["experiment=mt10"]).config, argparse.Namespace(num_envs=10), "cuda:1")
    assert made["device"] == "cuda:1"


def test_train_benchmark_runs_both_with_the_same_hyperparameters(capsys):
    words = ["experiment=mt10", "env.tasks=[reach-v3,push-v3]", "algo.learning_starts=20"]
    words += ["algo.batch_size=20", "algo.buffer_size=1000"]
    words += ["variant.actor_layers=[8]", "variant.critic_layers=[12]"]
    short = ["--rounds", "1", "--steps", "20", "--threads", "1", "--sb3-threads", "1"]
    assert main(["train", "--json", *short, *words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ours"] > 0
    assert result["train_over_sb3"] == pytest.approx(result["ours"] / result["sb3"])
    assert result["lost"] == pytest.approx(1 - result["ours"] / result["bare"])
    assert result["hardware"]["torch_threads"] == 1
