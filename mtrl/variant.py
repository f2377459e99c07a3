"""The networks of each variant: ``plain`` (no task id), ``shared`` (one-hot), ``multihead`` (a critic per task).

The critics are one stack of networks (mtrl.networks); the policies around them keep stable-baselines3's
interface, so that its own SAC, TD3 and DDPG train, save and load them.
"""

import math
from collections.abc import Sequence
from typing import Any

import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from mtrl.networks import Grouping, StackedMLP
from mtrl.optimizer import FusedAdam

VARIANTS = ("plain", "shared", "multihead")


def task_of(obs: torch.Tensor, n_tasks: int) -> torch.Tensor:
    """Return the task of each observation, shape (batch,), from the one-hot at its end."""
    return obs[:, -n_tasks:].argmax(1)


class StackedCritic(BaseModel):
    """All Q-functions, and their heads per task, as one stack.

    Entirely separate critics (``shared_layers`` 0) see the observation without the one-hot.

    Args:
        observation_space: Flat Box; with heads, its last ``n_heads`` entries are the task's one-hot.
        action_space: Flat Box.
        layers: Widths of the hidden layers.
        layer_norm: Normalise each hidden layer.
        n_critics: Number of Q-functions, of which the learner takes the minimum.
        n_heads: Number of tasks with a head of their own, 1 for none.
        shared_layers: Hidden layers that the heads share, None for all.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        layers: Sequence[int],
        layer_norm: bool = False,
        n_critics: int = 2,
        n_heads: int = 1,
        shared_layers: int | None = None,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.n_critics, self.n_heads = n_critics, n_heads
        # to a network that one task has to itself the one-hot is a constant
        self.obs_dim = math.prod(observation_space.shape) - (
            n_heads if n_heads > 1 and shared_layers == 0 else 0
        )
        inputs = self.obs_dim + get_action_dim(action_space)
        self.net = StackedMLP(n_critics, inputs, layers, 1, layer_norm, n_heads, shared_layers)

    def q_values(
        self,
        obs: torch.Tensor,
        actions: torch.Tensor,
        grouping: Grouping | None = None,
        n_critics: int | None = None,
    ) -> torch.Tensor:
        """Return the Q-values of the first ``n_critics`` (None: all), shape (n_critics, batch, 1)."""
        tasks = task_of(obs, self.n_heads) if self.n_heads > 1 and grouping is None else None
        inputs = torch.cat([obs[:, : self.obs_dim], actions], dim=1)
        return self.net(inputs, tasks, grouping, n_critics)

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return each critic's Q-values, shape (batch, 1): stable-baselines3's interface."""
        return self.q_values(obs, actions).unbind(0)

    def q1_forward(self, obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the first critic's Q-values, shape (batch, 1)."""
        return self.q_values(obs, actions, n_critics=1)[0]


class StackedActor(BasePolicy):
    """What the actors of SAC and TD3 have in common: a trunk, and optionally a linear head per task."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        layers: Sequence[int],
        outputs_per_action: int,
        n_heads: int = 1,
    ) -> None:
        super().__init__(observation_space, action_space, squash_output=True)
        self.n_heads = n_heads
        outputs = outputs_per_action * get_action_dim(action_space)
        self.net = StackedMLP(1, math.prod(observation_space.shape), layers, outputs, n_heads=n_heads)

    def outputs(self, obs: torch.Tensor, grouping: Grouping | None = None) -> torch.Tensor:
        """Return the raw outputs of the network, shape (batch, outputs)."""
        tasks = task_of(obs, self.n_heads) if self.n_heads > 1 and grouping is None else None
        return self.net(obs.to(self.net.layers[0].weight.dtype), tasks, grouping)[0]

    def _predict(self, observation: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        return self(observation, deterministic)


class GaussianActor(StackedActor):
    """SAC's actor: a Gaussian squashed by tanh, its mean and log standard deviation from one layer."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        layers: Sequence[int],
        n_heads: int = 1,
    ) -> None:
        super().__init__(observation_space, action_space, layers, 2, n_heads)

    def forward(self, obs: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        """Return actions in -1 .. 1, shape (batch, action_dim)."""
        mean, log_std = self.outputs(obs).chunk(2, dim=1)
        if deterministic:
            return torch.tanh(mean)
        std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
        return torch.tanh(torch.addcmul(mean, torch.randn_like(mean), std))

    def action_log_prob(
        self, obs: torch.Tensor, grouping: Grouping | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sampled actions (batch, action_dim) and their log-probabilities (batch,).

        Appendix C of SAC (Haarnoja et al. 2018, arXiv:1801.01290); the noise stands for (x - mean) / std,
        which spares the detour over the sample. The 1e-6 is stable-baselines3's.
        """
        mean, log_std = self.outputs(obs, grouping).chunk(2, dim=1)
        log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        noise = torch.randn_like(mean)
        actions = torch.tanh(torch.addcmul(mean, noise, log_std.exp()))
        squash = torch.log((1 + 1e-6) - actions * actions)
        constant = noise.square().sum(1).mul_(-0.5).sub_(0.5 * math.log(2 * math.pi) * mean.shape[1])
        return actions, constant - (log_std + squash).sum(1)


class DeterministicActor(StackedActor):
    """TD3's and DDPG's actor."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        layers: Sequence[int],
        n_heads: int = 1,
    ) -> None:
        super().__init__(observation_space, action_space, layers, 1, n_heads)

    def forward(self, obs: torch.Tensor, deterministic: bool = True) -> torch.Tensor:
        """Return actions in -1 .. 1, shape (batch, action_dim)."""
        return torch.tanh(self.outputs(obs))


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
        return actor.to(self.device)

    def make_critic(self, features_extractor: Any = None) -> StackedCritic:
        """Build the critics."""
        of = self._arguments
        heads = of["n_tasks"] if of["critic_heads"] else 1
        return StackedCritic(
            self.observation_space,
            self.action_space,
            of["critic_layers"],
            of["layer_norm"],
            of["n_critics"],
            heads,
            of["shared_layers"],
        ).to(self.device)

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
    if not heads and not layer_norm and not (isinstance(own, type) and issubclass(own, _StackedPolicy)):
        return "MlpPolicy", {"net_arch": {"pi": list(actor_layers), "qf": list(critic_layers)}}
    if issubclass(algo_class, stable_baselines3.SAC):
        policy = StackedSACPolicy
    elif issubclass(algo_class, stable_baselines3.TD3):
        policy = StackedTD3Policy
    else:
        option = "variant=multihead" if heads else "LayerNorm in the critic"
        mend = "variant=shared" if heads else "variant.layer_norm=false"
        raise ValueError(f"{algo_class.__name__} has no {option}: use SAC, TD3 or DDPG, or {mend}")
    kwargs = {
        "actor_layers": list(actor_layers),
        "critic_layers": list(critic_layers),
        "layer_norm": layer_norm,
        "n_tasks": n_tasks,
    }
    if heads:
        kwargs |= {"critic_heads": True, "shared_layers": shared, "actor_heads": actor_heads}
    return policy, kwargs
