"""The networks of each variant: ``plain`` (no task id), ``shared`` (one-hot), ``multihead`` (a critic per task).

Policies keep stable-baselines3's interface, so that its own SAC, TD3 and DDPG train, save and load them.
"""

from dataclasses import asdict
from typing import Any

import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from mtrl.algo.networks import Architecture, DeterministicActor, GaussianActor, StackedCritic
from mtrl.algo.optimizer import FusedAdam
from mtrl.config.types import MultiheadConfig, VariantConfig


class _StackedPolicy:
    """Constructor and network factories that the policies of SAC and TD3 share."""

    actor_class: type[BasePolicy]

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        use_sde: bool = False,
        optimizer_class: type[torch.optim.Optimizer] = FusedAdam,
        optimizer_kwargs: dict[str, Any] | None = None,
        **architecture: Any,
    ) -> None:
        of = self.architecture = Architecture(**architecture)
        if use_sde:
            raise ValueError("state-dependent exploration (use_sde) is not supported: leave it False")
        options = {"optimizer_class": optimizer_class, "optimizer_kwargs": optimizer_kwargs}
        options |= {"net_arch": {"pi": list(of.actor_layers), "qf": list(of.critic_layers)}}
        super().__init__(observation_space, action_space, lr_schedule, n_critics=of.n_critics, **options)

    def make_actor(self, features_extractor: Any = None) -> BasePolicy:
        """Build the actor."""
        return self.actor_class(self.observation_space, self.action_space, self.architecture).to(self.device)

    def make_critic(self, features_extractor: Any = None) -> StackedCritic:
        """Build the critics."""
        return StackedCritic(self.observation_space, self.action_space, self.architecture).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        names = ("observation_space", "action_space", "optimizer_class", "optimizer_kwargs")
        arguments = {name: getattr(self, name) for name in names}
        return {**arguments, "lr_schedule": self._dummy_schedule, **asdict(self.architecture)}


class StackedSACPolicy(_StackedPolicy, SACPolicy):
    """SAC's policy on stacked networks; ``reward_scales`` (n_tasks,) is saved and restored with it."""

    actor_class = GaussianActor

    def set_training_mode(self, mode: bool) -> None:
        """Let stable-baselines3's own SAC act, and not train what it cannot; mtrl's own sets the mode itself."""
        if mode and self.architecture.temperature == "per_task":
            raise ValueError(
                "only mtrl.algo.SAC learns a temperature per task: load this model with its load"
            )
        super().set_training_mode(mode)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.register_buffer("reward_scales", torch.ones(self.architecture.n_tasks))


class StackedTD3Policy(_StackedPolicy, TD3Policy):
    """TD3's and DDPG's policy on stacked networks."""

    actor_class = DeterministicActor


def policy_for(
    algorithm: type[BaseAlgorithm], variant: VariantConfig, n_tasks: int
) -> tuple[type[BasePolicy] | str, dict[str, Any]]:
    """Return the policy class of a variant for an algorithm, and its ``policy_kwargs``; ValueError if it has none.

    An algorithm keeps its own ``MlpPolicy`` wherever that can express what is asked for.
    """
    heads = isinstance(variant, MultiheadConfig)
    actor_layers, critic_layers = list(variant.actor_layers), list(variant.critic_layers)
    needed = variant.own_networks
    if needed is None and not issubclass(algorithm.policy_aliases.get("MlpPolicy", object), _StackedPolicy):
        return "MlpPolicy", {"net_arch": {"pi": actor_layers, "qf": critic_layers}}
    if issubclass(algorithm, stable_baselines3.SAC):
        policy = StackedSACPolicy
    elif issubclass(algorithm, stable_baselines3.TD3):
        policy = StackedTD3Policy
    else:
        raise ValueError(f"{algorithm.__name__} has no {needed[0]}: use SAC, TD3 or DDPG, or {needed[1]}")
    arguments: dict[str, Any] = {"actor_layers": actor_layers, "critic_layers": critic_layers}
    arguments |= {"layer_norm": variant.layer_norm, "n_tasks": n_tasks}
    if variant.initialisation != "torch":
        arguments["initialisation"] = variant.initialisation
    if heads:
        shared = None if variant.shared_layers == "all" else int(variant.shared_layers)
        arguments |= {"critic_heads": True, "shared_layers": shared, "actor_heads": variant.actor_heads}
    return policy, arguments


def build_policy(
    algorithm: type[BaseAlgorithm],
    variant: VariantConfig,
    n_tasks: int,
    *spaces: spaces.Box,
    use_sde: bool = False,
) -> BasePolicy:
    """Return the policy that ``algorithm`` would make for ``variant`` and the spaces of observations and actions."""
    policy, arguments = policy_for(algorithm, variant, n_tasks)
    if isinstance(policy, str):
        policy = algorithm.policy_aliases[policy]
    if issubclass(algorithm, stable_baselines3.DDPG):
        arguments["n_critics"] = 1
    if use_sde:
        arguments["use_sde"] = True
    return policy(*spaces, lambda _: 1.0, **arguments)
