"""The recipes hold the values they claim to, down to the agent that is made of them."""

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from mtrl.algo.make import make_agent
from mtrl.config.types import HardwareConfig
from mtrl.experiment import compose_run
from mtrl.tasks import MT10

HARDWARE = HardwareConfig("cpu", "stock", 1, 1, 1, "off")


def envs(n_tasks, copies=1):
    class Shape(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (39 + n_tasks,), np.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)

    return DummyVecEnv([Shape for _ in range(n_tasks * copies)])


def test_mtmhsac_is_the_published_baseline():
    """Of rainx0r/metaworld-algorithms at 30c9991: examples/multi_task/mtmhsac_mt10.py and its defaults."""
    cfg = compose_run(["experiment=mtmhsac"]).config
    values = compose_run(["experiment=mtmhsac"]).values
    published = {
        "algo": {
            "cls": "mtrl.algo.SAC",
            "kwargs": {},
            "learning_rate": 3e-4,  # OptimizerConfig.lr
            "adam_epsilon": 1e-5,  # OptimizerConfig.spawn
            "max_gradient_norm": 1.0,  # of actor and critic
            "buffer_size": 1_000_000,
            "learning_starts": 4_000 * 10,  # OffPolicyTrainingConfig.warmstart_steps, vector steps
            "batch_size": 1280,
            "balanced_batches": True,  # MultiTaskReplayBuffer.sample
            "tau": 0.005,
            "gamma": 0.99,
            "n_steps": 1,
            "updates": 1,
            "updates_per": "vector_step",
            "ent_coef": "auto",  # initial_temperature = 1
            "target_entropy": "auto",
            "temperature": "per_task",
            "reward_scaling": "none",
            "reward_scale": 1.0,
            "overlap": False,
            "decay_factor": 1.0,
        },
        "variant": {
            "name": "multihead",
            "actor_layers": [400] * 3,
            "critic_layers": [400] * 3,
            "layer_norm": False,
            "shared_layers": "all",
            "actor_heads": True,
            "initialisation": "metaworld_algorithms",
        },
    }
    unused = {"max_reward_ratio", "reward_scales_every", "decay_steps"}
    for group, expected in published.items():
        assert {key: value for key, value in values[group].items() if key not in unused} == expected
    assert (cfg.env.tasks, cfg.env.copies_per_task) == (list(MT10), 1)
    assert (cfg.env.reward, cfg.env.horizon, cfg.env.terminate_on_success) == ("v2", 500, False)
    assert not cfg.env.normalize_observations
    assert not cfg.env.normalize_reward
    assert (cfg.total_steps, cfg.evaluation.every, cfg.evaluation.episodes) == (20_000_000, 200_000, 50)


def test_agent_of_mtmhsac_has_the_published_optimisers_and_first_weights():
    cfg = compose_run(["experiment=mtmhsac", "algo.buffer_size=2000"]).config
    agent = make_agent(cfg, envs(10), HARDWARE)
    assert [optimizer.param_groups[0]["eps"] for optimizer in agent.optimizers()] == [1e-5] * 3
    assert agent.log_ent_coef.tolist() == [0.0] * 10
    for net, output in ((agent.actor.net, 1e-3), (agent.critic.net, 3e-3)):
        assert not any(layer.bias.any() for layer in net.layers[:-1])
        assert 0.9 * output < net.layers[-1].weight.abs().max() <= output
        assert net.layers[0].weight.abs().max() > 49**-0.5
    usual = make_agent(compose_run(["experiment=mt3", "algo.buffer_size=2000"]).config, envs(3, 2), HARDWARE)
    assert [optimizer.param_groups[0]["eps"] for optimizer in usual.optimizers()] == [1e-8] * 3


def test_mt10_on_a_processor_is_ten_small_learners_in_one():
    """As many transitions of each task in an update as MT1's recipe has, and as many updates for each of them."""
    ten, one = compose_run(["experiment=mt10"]).config, compose_run(["experiment=mt1"]).config
    assert ten.env.tasks == list(MT10)
    assert ten.algo.batch_size == 10 * one.algo.batch_size
    assert ten.algo.updates / ten.env.copies_per_task == one.algo.updates / one.env.copies_per_task
    assert (ten.variant.shared_layers, ten.variant.actor_heads) == (0, True)
    assert ten.variant.critic_layers == one.variant.critic_layers
    cfg = compose_run(["experiment=mt10", "algo.buffer_size=4000"]).config
    agent = make_agent(cfg, envs(10, 4), HARDWARE)
    assert agent.critic.net.layers[0].weight.shape == (20, 43, 128)
    assert agent.log_ent_coef.exp().tolist() == pytest.approx([0.1] * 10)


@pytest.mark.parametrize(("recipe", "n_tasks", "copies"), [("mt10_wide", 10, 1), ("mt3", 3, 2)])
def test_rewards_are_scaled_as_in_the_pilot(recipe, n_tasks, copies):
    """0.1 times the largest task mean over the task's own, at most 3, looked at every 500 updates."""
    cfg = compose_run([f"experiment={recipe}", "algo.buffer_size=2000"]).config
    agent = make_agent(cfg, envs(n_tasks, copies), HARDWARE)
    assert agent.reward_scales_every == 500
    means = np.linspace(0.0, 2.0, n_tasks)
    agent.replay_buffer.mean_reward_per_task = lambda: means.copy()
    agent._measure_reward_scales()
    with np.errstate(divide="ignore"):
        pilot = np.minimum(0.1 * means.max() / means, 3.0)
    assert agent.policy.reward_scales.numpy() == pytest.approx(pilot, rel=1e-6)


def test_the_bounds_of_reward_scaling_are_overrides():
    overrides = ["algo.max_reward_ratio=5", "algo.reward_scales_every=100", "algo.buffer_size=2000"]
    agent = make_agent(compose_run(["experiment=mt3", *overrides]).config, envs(3, 2), HARDWARE)
    assert (agent.max_reward_ratio, agent.reward_scales_every) == (5, 100)
