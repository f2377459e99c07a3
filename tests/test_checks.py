"""What a run may ask of an algorithm's class and of the machine, and which fix a refusal names."""

import pytest
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl import hardware
from mtrl.algo.make import arguments_of
from mtrl.checks import check_algorithm, replay_bytes
from mtrl.config.compose import defaults_of
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run, run_directory


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch):
    monkeypatch.setattr(hardware, "free_memory", lambda: 64 * 2**30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (64 * 2**30, 0))


@pytest.mark.parametrize("algo", ["sac", "td3", "ddpg"])
def test_an_argument_that_a_typed_key_decides_is_refused_with_that_key(algo):
    cfg = compose_run(["experiment=mt3", f"algo={algo}"]).config
    given = {"policy", "env", "policy_kwargs", *arguments_of(cfg, cfg.n_envs, "cpu", "off")}
    assert len(given) > 12
    for name in given:
        cfg.algo.kwargs = {name: 1}
        with pytest.raises(
            ConfigurationError, match=rf"algo\.kwargs\.{name} is decided by [a-z]+.*: set that"
        ):
            check_algorithm(cfg)


def test_the_key_that_decides_an_argument_is_named_also_where_it_is_called_otherwise():
    keys = {
        "buffer_size": "algo.buffer_size",
        "n_tasks": "env.tasks",
        "compile": "hardware.compile",
        "train_freq": "algo.updates",
    }
    for name, key in keys.items():
        with pytest.raises(ConfigurationError, match=f"is decided by {key}"):
            compose_run([f"algo.kwargs.{name}=1"])


def test_a_temperature_and_a_target_may_be_whole_numbers():
    words = ["algo.ent_coef=1", "algo.target_entropy=-4"]
    algo = compose_run(words).config.algo
    assert (algo.ent_coef, algo.target_entropy) == (1.0, -4.0)
    assert compose_run(words).values == compose_run(["algo.ent_coef=1.0", "algo.target_entropy=-4.0"]).values
    assert compose_run(["algo.ent_coef=auto_0.3"]).config.algo.ent_coef == "auto_0.3"


@pytest.mark.parametrize("experiment", ["mt1", "mt10_wide"])
def test_the_tuning_of_a_recipe_is_for_the_own_class_and_another_has_the_defaults(experiment):
    """An override of what only the own class has is still refused."""
    foreign = [f"experiment={experiment}", "algo.cls=stable_baselines3.SAC"]
    composition = compose_run(foreign)
    usual = defaults_of(algo="sac", variant="shared").values
    assert composition.values["algo"] == usual["algo"] | {"cls": "stable_baselines3.SAC"}
    assert composition.values["variant"] == usual["variant"]
    assert composition.differences == {"algo.cls": "stable_baselines3.SAC"}
    with pytest.raises(ConfigurationError, match=r"only mtrl\.algo\.SAC has algo\.overlap=true"):
        compose_run([*foreign, "algo.overlap=true"])
    assert compose_run([f"experiment={experiment}", "algo.cls=mtrl.algo.SAC"]).config.algo.overlap


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("algo.cls=stable_baselines3.SAC", "only mtrl.algo.SAC has algo.reward_scaling=return"),
        ("algo=td3", "no key 'algo.reward_scaling'"),
        ("env.normalize_reward=true", "use one of them"),
    ],
)
def test_rewards_are_not_divided_by_returns_where_that_is_unknown_or_done_already(word, message):
    with pytest.raises(ConfigurationError, match=message) as refusal:
        compose_run([word, "algo.reward_scaling=return"])
    assert "\n" not in str(refusal.value)


class Learner(OffPolicyAlgorithm):
    """A learner of nobody's family, which takes what algo=sac gives, as sb3_contrib.TQC does."""

    def __init__(
        self,
        policy,
        env,
        learning_rate,
        buffer_size,
        learning_starts,
        batch_size,
        tau,
        gamma,
        train_freq,
        gradient_steps,
        replay_buffer_class,
        replay_buffer_kwargs,
        ent_coef,
        target_entropy,
        policy_kwargs,
        seed,
        device,
        quantiles=2,
    ):
        raise NotImplementedError


def test_a_class_of_another_family_is_taken_by_its_arguments_and_has_no_networks_of_ours():
    words = ["experiment=mt10_wide", f"algo.cls={__name__}.Learner"]
    assert compose_run([*words, "algo.kwargs.quantiles=3"]).config.algo.kwargs == {"quantiles": 3}
    refused = {
        "variant=multihead": "has no variant=multihead: use SAC, TD3 or DDPG, or variant=shared",
        "variant.layer_norm=true": "has no LayerNorm in the critic: use SAC, TD3 or DDPG, or variant.layer_norm=",
        "algo.kwargs.quantile=3": "is not an argument of",
        "algo=td3": "does not take action_noise, policy_delay, target_policy_noise, target_noise_clip",
    }
    for word, message in refused.items():
        with pytest.raises(ConfigurationError, match=message):
            compose_run([*words, word])


def test_our_own_class_is_known_under_another_name_and_is_told_the_tasks():
    cfg = compose_run(["experiment=mt3", "algo.cls=mtrl.algo.sac.SAC"]).config
    assert arguments_of(cfg, cfg.n_envs, "cpu", "off")["n_tasks"] == 3


def test_a_gpu_changes_no_hyperparameter(monkeypatch):
    monkeypatch.setattr(hardware, "cuda_available", lambda device: True)
    for words in (["experiment=mt10"], ["experiment=mt1"], ["experiment=mt3", "algo=td3"]):
        on_gpu = compose_run([*words, "hardware=gpu"])
        on_processor = compose_run([*words, "hardware=cpu"])
        assert on_gpu.config.hardware.device == "cuda"
        different = {key for key, value in on_gpu.values.items() if on_processor.values[key] != value}
        assert different == {"hardware"}
        assert run_directory(on_gpu) == run_directory(on_processor)


def test_a_recording_of_the_update_is_refused_where_torch_sees_no_gpu(monkeypatch):
    words = ["hardware.compile=cuda_graph"]
    monkeypatch.setattr(hardware, "cuda_available", lambda device: False)
    with pytest.raises(ConfigurationError, match=r"torch sees none: use hardware\.compile=auto"):
        compose_run(words)
    monkeypatch.setattr(hardware, "cuda_available", lambda device: True)
    compose_run(words)


def test_the_gpu_of_a_mac_is_refused_elsewhere(monkeypatch):
    monkeypatch.setattr(hardware.sys, "platform", "linux")
    with pytest.raises(ConfigurationError, match="it needs a Mac with Apple's GPU; use hardware=auto or cpu"):
        compose_run(["hardware.device=mps"])
    monkeypatch.setattr(hardware, "mps_available", lambda: True)
    compose_run(["hardware.device=mps"])


def test_an_update_is_compiled_by_itself_only_where_the_algorithm_can(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    for algo, expected in (("sac", "cuda_graph"), ("td3", "off"), ("ddpg", "off")):
        cfg = compose_run([f"algo={algo}"]).config
        chosen = hardware.choose(cfg, cfg.hardware)
        assert (chosen.device, chosen.compile) == ("cuda", expected)


def test_the_bytes_of_a_replay_count_balanced_batches_and_longer_returns():
    words = ["experiment=mt10_wide", "algo.buffer_size=1000", "algo.batch_size=150"]
    plain = replay_bytes(compose_run([*words, "algo.balanced_batches=false"]).config)
    assert replay_bytes(compose_run(words).config) == plain + 16_000
    assert replay_bytes(compose_run([*words, "algo.n_steps=3"]).config) == plain + 24_000


def test_on_a_gpu_it_is_the_memory_of_the_gpu_that_must_suffice(monkeypatch):
    monkeypatch.setattr(hardware, "cuda_available", lambda device: True)
    monkeypatch.setattr(hardware, "free_memory", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 2**30, 0))
    compose_run(["hardware.device=cuda:1", "algo.buffer_size=5e6"])
    with pytest.raises(
        ConfigurationError, match=r"3\.0 GiB are free on cuda:1: use at most algo\.buffer_size="
    ):
        compose_run(["hardware.device=cuda:1", "algo.buffer_size=1e7"])


@pytest.mark.parametrize("gpu", [False, True])
def test_torch_is_asked_for_a_gpu_only_where_a_large_buffer_might_go_to_one(monkeypatch, tmp_path, gpu):
    asked = []
    monkeypatch.setattr(hardware, "cuda_available", lambda device: asked.append(device) or gpu)
    monkeypatch.setattr(hardware, "GPU_DRIVERS", (str(tmp_path / "none"),))
    host, device = (64 * 2**30, ""), (64 * 2**30, " on cuda")
    assert hardware.replay_memory("auto", 2**40) == host
    monkeypatch.setattr(hardware, "GPU_DRIVERS", (str(tmp_path),))
    assert hardware.replay_memory("auto", 2**30) == host
    assert hardware.replay_memory("cpu", 2**40) == host
    assert asked == []
    assert hardware.replay_memory("auto", 2**40) == (device if gpu else host)
    assert asked == ["cuda"]
