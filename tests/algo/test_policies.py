"""The networks of each variant: heads against a plain loop over tasks, policies with every algorithm."""

import copy
import math
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import stable_baselines3
import torch
from drift import assert_continues_alike, envs
from gymnasium import spaces
from torch.nn import functional as F

from mtrl import algo
from mtrl.algo.networks import SORTED, Architecture, StackedCritic, StackedMLP, group_by_task
from mtrl.algo.optimizer import FusedAdam
from mtrl.algo.policies import StackedSACPolicy, StackedTD3Policy, build_policy, policy_for
from mtrl.algo.replay import TaskReplayBuffer
from mtrl.config.types import OPTIONS
from mtrl.env.metaworld import action_space
from mtrl.hardware import weights
from mtrl.tasks import OBSERVATION_SIZE

TASKS, OBS = 4, 6
SPACE = spaces.Box(-np.inf, np.inf, (OBS + TASKS,), np.float32)
ACTION = spaces.Box(-1, 1, (2,), np.float32)


def variant(name, actor=(16,), critic=(24, 12), **options):
    """Return the typed variant of that name; heads share every layer unless they say otherwise."""
    defaults = {"layer_norm": False, "initialisation": "torch"}
    if name == "multihead":
        defaults |= {"shared_layers": "all", "actor_heads": False}
    return OPTIONS["variant"][name](name, list(actor), list(critic), **(defaults | options))


def plain_loop(net: StackedMLP, x: torch.Tensor, tasks: torch.Tensor) -> torch.Tensor:
    """Evaluate one network and one transition after the other, as a textbook would."""
    rows = []
    for i in range(net.n):
        for row, task in zip(x, tasks.tolist(), strict=True):
            for index, layer in enumerate(net.layers):
                head = i * net.n_heads + task if index >= net.shared_layers else i
                row = row @ layer.weight[head] + layer.bias[head, 0]
                if index < len(net.layers) - 1:
                    if net.norms:
                        norm = net.norms[index]
                        row = F.layer_norm(row, row.shape, norm.weight[head, 0], norm.bias[head, 0])
                    row = torch.relu(row)
            rows.append(row)
    return torch.stack(rows).view(net.n, len(x), -1)


def network(shared_layers, layer_norm=False, outputs=1):
    torch.manual_seed(0)
    heads = (1, None) if shared_layers == "no heads" else (TASKS, shared_layers)
    net = StackedMLP(2, OBS, [8, 6], outputs, layer_norm, *heads).double()
    for norm in net.norms:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    return net


BATCHES = {
    "sorted and equal": [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3],
    "shuffled and equal": [2, 0, 1, 3, 0, 1, 3, 2, 2, 0, 3, 1],
    "nearly equal": [3, 1, 0, 2, 1, 0, 3, 2, 1],
    "unequal": [3, 1, 1, 1, 0, 1, 1, 2, 1],
    "tasks missing": [2, 2, 0, 2],
    "one transition": [3],
}


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("shared_layers", [0, 1, 2, None, "no heads"])
@pytest.mark.parametrize("tasks", BATCHES.values(), ids=BATCHES.keys())
def test_heads_equal_the_plain_loop_in_values_and_gradients(tasks, shared_layers, layer_norm):
    net = network(shared_layers, layer_norm, outputs=3)
    x = torch.randn(len(tasks), OBS, dtype=torch.float64, requires_grad=True)
    tasks = torch.tensor(tasks)
    weights = torch.randn(2, len(tasks), 3, dtype=torch.float64)
    expected = plain_loop(net, x, tasks)
    inputs = [x, *net.parameters()]
    expected_gradients = torch.autograd.grad((expected * weights).sum(), inputs)
    ways = {"by task": {"tasks": tasks}, "grouped": {"grouping": group_by_task(tasks, TASKS)}}
    if tasks.tolist() == BATCHES["sorted and equal"]:
        ways["sorted"] = {"grouping": SORTED}
    for way, arguments in ways.items():
        got = net(x, **arguments)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12, msg=way)
        gradients = torch.autograd.grad((got * weights).sum(), inputs)
        for gradient, wanted in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(net(x, **arguments, n=1), expected[:1], rtol=1e-12, atol=1e-12, msg=way)


def test_a_task_that_has_the_batch_to_itself_costs_no_more_than_the_batch():
    """Else a curriculum's stage of one task among 50 would be 50 times the work."""
    net = StackedMLP(2, OBS, [8, 6], 1, n_heads=50, shared_layers=0)
    few, alike = torch.tensor([7] * 99 + [3]), torch.arange(100) % 50
    for tasks in (few, alike):
        with mock.patch.object(torch, "baddbmm", wraps=torch.baddbmm) as product:
            net(torch.randn(100, OBS), tasks)
        rows = [call.args[1].shape[0] * call.args[1].shape[1] for call in product.call_args_list]
        assert sum(rows) <= 2 * 2 * 100 * len(net.layers)


def test_entirely_separate_critics_share_no_parameter():
    """What one task's transitions teach leaves the heads of the other tasks alone."""
    of = Architecture(
        critic_layers=[8, 6], layer_norm=True, n_tasks=TASKS, critic_heads=True, shared_layers=0
    )
    critic = StackedCritic(SPACE, ACTION, of)
    obs = torch.cat([torch.randn(10, OBS), F.one_hot(torch.full((10,), 2), TASKS)], dim=1)
    sum(critic(obs, torch.randn(10, 2))).sum().backward()
    for parameter in critic.parameters():
        touched = parameter.grad.view(2, TASKS, -1).abs().sum((0, 2)) > 0
        assert touched.tolist() == [False, False, True, False]


def test_initial_weights_are_distributed_like_those_of_torch_linear():
    net = StackedMLP(2, 50, [400], 1, n_heads=3, shared_layers=0)
    for layer, inputs in zip(net.layers, (50, 400), strict=True):
        bound = inputs**-0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_initial_weights_are_those_of_metaworld_algorithms_where_asked_for():
    heads = {"n_tasks": TASKS, "critic_heads": True, "actor_heads": True}
    heads |= {"actor_layers": [400, 400], "critic_layers": [400, 400]}
    policy = StackedSACPolicy(SPACE, ACTION, lambda _: 1e-3, **heads, initialisation="metaworld_algorithms")
    for net, output in ((policy.actor.net, 1e-3), (policy.critic.net, 3e-3)):
        for layer in net.layers[:-1]:
            bound = math.sqrt(6 / layer.weight.shape[1])
            assert 0.95 * bound < layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
            assert not layer.bias.any()
        for values in (net.layers[-1].weight, net.layers[-1].bias):
            assert 0.4 * output < values.abs().max() <= output
        assert net.layers[-1].weight.std().item() == pytest.approx(output / math.sqrt(3), rel=0.1)
    for mine, target in zip(policy.critic.parameters(), policy.critic_target.parameters(), strict=True):
        assert torch.equal(mine, target)
    with pytest.raises(ValueError, match="initialisation=jax is not one of torch, metaworld_algorithms"):
        StackedSACPolicy(SPACE, ACTION, lambda _: 1e-3, initialisation="jax")


ALGORITHMS = {
    "sac": algo.SAC,
    "td3": stable_baselines3.TD3,
    "ddpg": stable_baselines3.DDPG,
    "stock sac": stable_baselines3.SAC,
}
VARIANTS = {
    "plain": variant("plain"),
    "shared": variant("shared"),
    "shared with LayerNorm": variant("shared", layer_norm=True),
    "multihead, separate": variant("multihead", shared_layers=0),
    "multihead, linear heads": variant("multihead", actor_heads=True),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_learns_and_is_the_same_after_save_and_load(algorithm, name, tmp_path):
    algo_class, asked = ALGORITHMS[algorithm], VARIANTS[name]
    policy, kwargs = policy_for(algo_class, asked, TASKS)
    options = {"n_tasks": TASKS}
    if algo_class is not algo.SAC:
        buffer_options = {"n_tasks": TASKS, "seed": 0}
        options = {"replay_buffer_class": TaskReplayBuffer, "replay_buffer_kwargs": buffer_options}
    options |= {"buffer_size": 400, "learning_starts": 40, "batch_size": 20, "seed": 0, "device": "cpu"}
    env = envs(TASKS, copies=1, one_hot=asked.task_id)
    model = algo_class(policy, env, policy_kwargs=kwargs, **options).learn(100)
    alone = build_policy(algo_class, asked, TASKS, model.observation_space, ACTION).state_dict()
    shapes = {key: value.shape for key, value in model.policy.state_dict().items()}
    assert {key: value.shape for key, value in alone.items()} == shapes
    assert_continues_alike(model, tmp_path)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_weights_of_a_variant_are_known_before_they_are_allocated(name):
    asked = replace(VARIANTS[name], actor_layers=[300, 300], critic_layers=[300, 200])
    space = spaces.Box(-1, 1, (OBSERVATION_SIZE + TASKS * asked.task_id,), np.float32)
    built = build_policy(algo.SAC, asked, TASKS, space, action_space())
    counted = (built.actor, 1), (built.critic, 2)
    for least, (network, n) in zip(weights(asked, TASKS), counted, strict=True):
        held = sum(parameter.numel() for parameter in network.parameters()) / n
        assert 0.9 * held < least <= held


def test_ddpg_keeps_a_single_critic():
    asked = variant("multihead", critic=[8], shared_layers=0)
    policy, kwargs = policy_for(stable_baselines3.DDPG, asked, TASKS)
    env = envs(TASKS, copies=1)
    model = stable_baselines3.DDPG(policy, env, policy_kwargs=kwargs, buffer_size=10, device="cpu")
    alone = build_policy(stable_baselines3.DDPG, asked, TASKS, SPACE, ACTION)
    for made in (model.policy, alone):
        assert made.critic.n_critics == 1
        assert made.critic.net.layers[0].weight.shape == (TASKS, OBS + 2, 8)


def test_algorithms_keep_their_own_networks_where_those_suffice():
    asked = variant("shared", [8], [16, 16])
    for algo_class in (stable_baselines3.SAC, stable_baselines3.TD3):
        own = ("MlpPolicy", {"net_arch": {"pi": [8], "qf": [16, 16]}})
        assert policy_for(algo_class, asked, 3) == own
    for options in ({"layer_norm": True}, {"initialisation": "metaworld_algorithms"}):
        policy, kwargs = policy_for(stable_baselines3.TD3, variant("shared", **options), 3)
        assert policy is StackedTD3Policy
        assert options.items() <= kwargs.items()
    policy, kwargs = policy_for(algo.SAC, variant("plain", [8], [16, 16]), 3)
    assert policy is StackedSACPolicy
    assert kwargs == {"actor_layers": [8], "critic_layers": [16, 16], "layer_norm": False, "n_tasks": 3}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (variant("multihead"), "PPO has no variant=multihead: use SAC, TD3 or DDPG, or variant=shared"),
        (variant("shared", layer_norm=True), "PPO has no LayerNorm in the critic"),
        (variant("plain", initialisation="metaworld_algorithms"), "PPO has no initialisation=metaworld_algo"),
    ],
)
def test_what_an_algorithm_has_no_networks_for_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        policy_for(stable_baselines3.PPO, asked, 3)


def test_policy_refuses_state_dependent_exploration():
    with pytest.raises(ValueError, match="use_sde"):
        StackedSACPolicy(SPACE, ACTION, lambda _: 1e-3, use_sde=True)


def test_fused_adam_makes_the_steps_of_torch_adam_also_after_loading_its_state():
    torch.manual_seed(0)
    start = [torch.randn(3, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)]
    ours, theirs = ([torch.nn.Parameter(value.clone()) for value in start] for _ in range(2))
    lean, stock = FusedAdam(ours, 0.01, weight_decay=0.1), torch.optim.Adam(theirs, 0.01, weight_decay=0.1)
    for step in range(20):
        if step == 10:
            lean.load_state_dict(copy.deepcopy(stock.state_dict()))
        for group in (lean.param_groups[0], stock.param_groups[0]):
            group["lr"] = 0.01 / (1 + step)
        for mine, their in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            their.grad = mine.grad.clone()
        lean.step()
        stock.step()
        for mine, their in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, their, rtol=1e-12, atol=1e-14)
    saved = [optimizer.state_dict()["state"][1] for optimizer in (lean, stock)]
    assert saved[0].keys() == saved[1].keys()
    assert float(saved[0]["step"]) == float(saved[1]["step"]) == 20
    lean.zero_grad()
    assert all(parameter.grad is None for parameter in ours)
    with pytest.raises(ValueError, match="no closure"):
        lean.step(lambda: 0.0)


def test_fused_adam_refuses_what_it_would_not_do():
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    for option in ("amsgrad", "maximize", "foreach", "capturable", "decoupled_weight_decay"):
        with pytest.raises(TypeError, match=option):
            FusedAdam(weights, **{option: True})
    with pytest.raises(ValueError, match="has no maximize"):
        FusedAdam([{"params": weights, "maximize": True}]).step()
    with pytest.raises(ValueError, match="one parameter group"):
        FusedAdam([{"params": weights[:1]}, {"params": weights[1:], "lr": 1.0}]).step()
    loaded = FusedAdam(weights)
    loaded.load_state_dict(torch.optim.Adam(weights, amsgrad=True).state_dict())
    with pytest.raises(ValueError, match="has no amsgrad"):
        loaded.step()
