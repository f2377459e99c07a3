"""Actors and critics on stacked networks, with stable-baselines3's interface."""

import math
from collections.abc import Sequence

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN

from mtrl.networks import Grouping, StackedMLP


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
