"""The networks of each variant: ``plain`` (no task id), ``shared`` (one-hot), ``multihead`` (a critic per task).

The critics are one stack of networks (mtrl.algo.networks); the policies around them keep stable-baselines3's
interface, so that its own SAC, TD3 and DDPG train, save and load them.
"""

from collections.abc import Sequence
from typing import Any

import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from mtrl.algo.networks import (
    ACTOR_OUTPUT,
    CRITIC_OUTPUT,
    DeterministicActor,
    GaussianActor,
    StackedCritic,
    initialise,
)
from mtrl.algo.optimizer import FusedAdam

VARIANTS = ("plain", "shared", "multihead")


class _StackedPolicy:
    """Constructor and network factories that the policies of SAC and TD3 share.

    Args:
        observation_space: Flat Box; with heads, its last ``n_tasks`` entries are the task's one-hot.
        action_space: Flat Box.
        lr_schedule: Learning rate by remaining progress.
        actor_layers: Widths of the actor's hidden layers.
        critic_layers: Widths of the critics' hidden layers.
        layer_norm: Normalise the hidden layers of the critics.
        n_critics: Number of Q-functions.
        n_tasks: Number of tasks.
        critic_heads: Whether each task has critic heads of its own.
        shared_layers: Hidden layers that the critic's heads share, None for all.
        actor_heads: Whether each task has a linear actor head of its own.
        initialisation: How the first weights are drawn, see ``mtrl.algo.networks``.
        use_sde: Must be False; stable-baselines3 passes it.
        optimizer_class: Optimiser of every network.
        optimizer_kwargs: Its arguments.

    Raises:
        ValueError: heads on a single task, or more hidden layers shared than there are.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        actor_layers: Sequence[int] = (256, 256),
        critic_layers: Sequence[int] = (256, 256),
        layer_norm: bool = False,
        n_critics: int = 2,
        n_tasks: int = 1,
        critic_heads: bool = False,
        shared_layers: int | None = None,
        actor_heads: bool = False,
        initialisation: str = "torch",
        use_sde: bool = False,
        optimizer_class: type[torch.optim.Optimizer] = FusedAdam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if use_sde:
            raise ValueError("state-dependent exploration (use_sde) is not supported: leave it False")
        if (critic_heads or actor_heads) and n_tasks < 2:
            raise ValueError("heads per task need more than one task: use variant=shared for a single one")
        self._arguments = {
            "actor_layers": list(actor_layers),
            "critic_layers": list(critic_layers),
            "layer_norm": layer_norm,
            "n_critics": n_critics,
            "n_tasks": n_tasks,
            "critic_heads": critic_heads,
            "shared_layers": shared_layers,
            "actor_heads": actor_heads,
            "initialisation": initialisation,
        }
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch={"pi": list(actor_layers), "qf": list(critic_layers)},
            n_critics=n_critics,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def make_actor(self, features_extractor: Any = None) -> BasePolicy:
        """Build the actor."""
        of = self._arguments
        heads = of["n_tasks"] if of["actor_heads"] else 1
        actor = self.actor_class(self.observation_space, self.action_space, of["actor_layers"], heads)
        initialise(actor.net, of["initialisation"], ACTOR_OUTPUT)
        return actor.to(self.device)

    def make_critic(self, features_extractor: Any = None) -> StackedCritic:
        """Build the critics."""
        of = self._arguments
        heads = of["n_tasks"] if of["critic_heads"] else 1
        critic = StackedCritic(
            self.observation_space,
            self.action_space,
            of["critic_layers"],
            of["layer_norm"],
            of["n_critics"],
            heads,
            of["shared_layers"],
        )
        initialise(critic.net, of["initialisation"], CRITIC_OUTPUT)
        return critic.to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
            **self._arguments,
        }


class StackedSACPolicy(_StackedPolicy, SACPolicy):
    """SAC's policy on stacked networks; ``reward_scales`` (n_tasks,) is saved and restored with it."""

    actor_class = GaussianActor

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.register_buffer("reward_scales", torch.ones(self._arguments["n_tasks"]))


class StackedTD3Policy(_StackedPolicy, TD3Policy):
    """TD3's and DDPG's policy on stacked networks."""

    actor_class = DeterministicActor


def policy_for(
    algo_class: type[BaseAlgorithm],
    variant: str,
    n_tasks: int,
    *,
    actor_layers: Sequence[int],
    critic_layers: Sequence[int],
    layer_norm: bool = False,
    initialisation: str = "torch",
    shared_layers: int | str | None = None,
    actor_heads: bool = False,
) -> tuple[type[BasePolicy] | str, dict[str, Any]]:
    """Return the policy class and ``policy_kwargs`` of a variant for an algorithm.

    An algorithm keeps its own ``MlpPolicy`` wherever that can express what is asked for.

    Args:
        algo_class: The algorithm.
        variant: ``plain``, ``shared`` or ``multihead``.
        n_tasks: Number of tasks of the run.
        actor_layers: Widths of the actor's hidden layers.
        critic_layers: Widths of the critics' hidden layers.
        layer_norm: Normalise the hidden layers of the critics.
        initialisation: How the first weights are drawn, see ``mtrl.algo.networks``.
        shared_layers: Hidden layers that the heads of ``multihead`` share: a number, or ``all`` (or None).
        actor_heads: Whether the actor of ``multihead`` has a linear head per task, too.

    Raises:
        ValueError: an unknown variant, ``multihead`` on a single task, more layers shared than there are, or
            an algorithm that lacks what is asked for.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant={variant} is not one of {', '.join(VARIANTS)}")
    heads = variant == "multihead"
    if heads and n_tasks < 2:
        raise ValueError(
            "variant=multihead needs more than one task: use variant=shared, or a set of several tasks"
        )
    shared = None if shared_layers in (None, "all") else int(shared_layers)
    if heads and shared is not None and not 0 <= shared <= len(critic_layers):
        raise ValueError(f"variant.shared_layers={shared} is not between 0 and {len(critic_layers)}, or all")

    own = algo_class.policy_aliases.get("MlpPolicy")
    plain = not heads and not layer_norm and initialisation == "torch"
    if plain and not (isinstance(own, type) and issubclass(own, _StackedPolicy)):
        return "MlpPolicy", {"net_arch": {"pi": list(actor_layers), "qf": list(critic_layers)}}
    if issubclass(algo_class, stable_baselines3.SAC):
        policy = StackedSACPolicy
    elif issubclass(algo_class, stable_baselines3.TD3):
        policy = StackedTD3Policy
    else:
        if heads:
            option, mend = "variant=multihead", "variant=shared"
        elif layer_norm:
            option, mend = "LayerNorm in the critic", "variant.layer_norm=false"
        else:
            option, mend = f"initialisation={initialisation}", "leave variant.initialisation out"
        raise ValueError(f"{algo_class.__name__} has no {option}: use SAC, TD3 or DDPG, or {mend}")
    kwargs = {
        "actor_layers": list(actor_layers),
        "critic_layers": list(critic_layers),
        "layer_norm": layer_norm,
        "n_tasks": n_tasks,
    }
    if initialisation != "torch":
        kwargs["initialisation"] = initialisation
    if heads:
        kwargs |= {"critic_heads": True, "shared_layers": shared, "actor_heads": actor_heads}
    return policy, kwargs
