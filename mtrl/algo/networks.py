"""Actors and critics as stacks of networks that are evaluated at once, with stable-baselines3's interface."""

import math
from collections.abc import Sequence
from functools import cache
from typing import ClassVar, NamedTuple

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import nn
from torch.nn import functional as F


def normalised_relu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return relu(layer_norm(x) * weight + bias) of ``x`` (n, rows, width); gain and bias have (n, 1, width)."""
    # torch's own gain and bias are the same for every network; its code is vectorised only where it is given some
    units = _units(x.shape[-1], x.dtype, x.device)
    return torch.relu_(torch.addcmul(bias, F.layer_norm(x, x.shape[-1:], *units), weight))


@cache
def _units(width: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(width, dtype=dtype, device=device), torch.zeros(width, dtype=dtype, device=device)


class Grouping(NamedTuple):
    """Where each transition of a batch goes so that the rows of one task lie together, equally many per task.

    ``gather`` (n_tasks * rows,) names the transition in each place, ``scatter`` (batch,) the place of each
    transition. Both are None for a batch that is already sorted by task with equal shares. Places that no
    transition fills repeat the first one; their results are never read.

    Where few tasks have most of the batch, such places would outnumber the transitions. ``shares`` then says how
    many transitions each task has, ``gather`` and ``scatter`` leave no place empty, and the heads are evaluated
    one task after the other.
    """

    gather: torch.Tensor | None
    scatter: torch.Tensor | None
    shares: list[int] | None = None


_MOST_PLACES = 2
"""Places per transition up to which equally many for every task are cheaper than a product for each."""

SORTED = Grouping(None, None)
"""The grouping of a batch sorted by task with the same number of transitions of each."""


def group_by_task(tasks: torch.Tensor, n_tasks: int) -> Grouping:
    """Return the grouping of a batch in any order and balance, from the task of each row, (batch,)."""
    counts = torch.bincount(tasks, minlength=n_tasks)
    order = torch.argsort(tasks, stable=True)
    sorted_tasks = tasks[order]
    rank = torch.arange(len(tasks), device=tasks.device) - (counts.cumsum(0) - counts)[sorted_tasks]
    rows = int(counts.max())
    if n_tasks * rows > _MOST_PLACES * len(tasks):
        return Grouping(order, order.argsort(), counts.tolist())
    place = sorted_tasks * rows + rank
    gather = tasks.new_zeros(n_tasks * rows)
    gather[place] = order
    scatter = torch.empty_like(place)
    scatter[order] = place
    return Grouping(gather, scatter)


def task_of(obs: torch.Tensor, n_tasks: int) -> torch.Tensor:
    """Return the task of each observation, shape (batch,), from the one-hot at its end."""
    return obs[:, -n_tasks:].argmax(1)


def _first(parameter: torch.Tensor, k: int) -> torch.Tensor:
    """Return the first k layers of a stack; all of them without a view, whose gradient would be a copy."""
    return parameter if k == len(parameter) else parameter[:k]


class StackedLinear(nn.Module):
    """``n`` linear layers side by side: ``weight`` (n, inputs, outputs), ``bias`` (n, 1, outputs)."""

    def __init__(self, n: int, inputs: int, outputs: int) -> None:
        super().__init__()
        # the range of torch.nn.Linear
        bound = inputs**-0.5 if inputs else 0.0
        self.weight = nn.Parameter(torch.empty(n, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (k, batch, inputs) to (k, batch, outputs) by the first k layers, usually all."""
        return torch.baddbmm(_first(self.bias, len(x)), x, _first(self.weight, len(x)))


class StackedLayerNorm(nn.Module):
    """``n`` layer normalisations side by side, each with its own gain and bias, (n, 1, width), and ReLU."""

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n, 1, width))
        self.bias = nn.Parameter(torch.zeros(n, 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise the last dimension of (k, batch, width) by the first k normalisations, usually all."""
        return normalised_relu(x, _first(self.weight, len(x)), _first(self.bias, len(x)))


class StackedMLP(nn.Module):
    """``n`` multi-layer perceptrons with ReLU, the upper layers of each split into one head per task.

    Stack ``i``'s head for task ``t`` is number ``i * n_heads + t`` of the layers that are split.

    Args:
        n: Number of networks, for instance 2 critics.
        inputs: Width of the input.
        layers: Widths of the hidden layers.
        outputs: Width of the output.
        layer_norm: Normalise each hidden layer before its ReLU.
        n_heads: Number of tasks that have a head of their own; 1 for a network without heads.
        shared_layers: How many hidden layers the heads share; None for all, which leaves linear heads.
    """

    def __init__(
        self,
        n: int,
        inputs: int,
        layers: Sequence[int],
        outputs: int,
        layer_norm: bool = False,
        n_heads: int = 1,
        shared_layers: int | None = None,
    ) -> None:
        super().__init__()
        self.n, self.n_heads, self.outputs = n, n_heads, outputs
        self.shared_layers = len(layers) if shared_layers is None else shared_layers
        if n_heads == 1:
            # every layer is shared, the last one too
            self.shared_layers = len(layers) + 1
        widths = [inputs, *layers, outputs]
        copies = [n * (n_heads if index >= self.shared_layers else 1) for index in range(len(widths) - 1)]
        self.layers = nn.ModuleList(
            StackedLinear(copies[i], widths[i], widths[i + 1]) for i in range(len(widths) - 1)
        )
        self.norms = nn.ModuleList(
            StackedLayerNorm(copies[i], width) for i, width in enumerate(layers) if layer_norm
        )

    def forward(
        self,
        x: torch.Tensor,
        tasks: torch.Tensor | None = None,
        grouping: Grouping | None = None,
        n: int | None = None,
    ) -> torch.Tensor:
        """Evaluate the networks, each transition on the head of its own task.

        Args:
            x: Input, shape (batch, inputs).
            tasks: Task of each transition, shape (batch,); only needed with heads and without ``grouping``.
            grouping: The batch grouped by task, where the caller knows it (it is computed otherwise).
            n: Evaluate only the first ``n`` networks; None for all.

        Returns:
            Shape (n, batch, outputs).
        """
        n = n or self.n
        x = x.expand(n, *x.shape)
        for index, layer in enumerate(self.layers):
            if index == self.shared_layers:
                if grouping is None and index == len(self.layers) - 1:
                    return self._gather_linear_heads(x, tasks)
                grouping = grouping or group_by_task(tasks, self.n_heads)
                if grouping.gather is not None:
                    x = x.index_select(1, grouping.gather)
                if grouping.shares is not None:
                    return self._task_by_task(x, grouping.shares).index_select(1, grouping.scatter)
                x = x.reshape(n * self.n_heads, -1, x.shape[-1])
            x = layer(x)
            if index < len(self.layers) - 1:
                x = self.norms[index](x) if self.norms else torch.relu_(x)
        if self.shared_layers >= len(self.layers):
            return x
        x = x.view(n, -1, self.outputs)
        return x if grouping.scatter is None else x.index_select(1, grouping.scatter)

    def _task_by_task(self, x: torch.Tensor, shares: list[int]) -> torch.Tensor:
        """Evaluate the heads on (n, batch, width) sorted by task, for each task that has a share."""
        n, first = len(x), self.shared_layers

        def heads(parameter: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return parameter.view(self.n, self.n_heads, *parameter.shape[1:])[:n].unbind(1)

        # unbound once, or the gradient of every head would be as large as that of all
        layers = [(heads(layer.weight), heads(layer.bias)) for layer in self.layers[first:]]
        norms = [(heads(norm.weight), heads(norm.bias)) for norm in self.norms[first:]]
        outputs = []
        for task, rows in enumerate(x.split(shares, dim=1)):
            if shares[task] == 0:
                continue
            for index, (weight, bias) in enumerate(layers):
                rows = torch.baddbmm(bias[task], rows, weight[task])
                if index < len(layers) - 1:
                    if norms:
                        gain, shift = norms[index]
                        rows = normalised_relu(rows, gain[task], shift[task])
                    else:
                        rows = torch.relu_(rows)
            outputs.append(rows)
        return torch.cat(outputs, dim=1)

    def _gather_linear_heads(self, x: torch.Tensor, tasks: torch.Tensor) -> torch.Tensor:
        """Evaluate every linear head on every row and keep its own: cheaper than sorting a few rows."""
        n, stacked = len(x), len(x) * self.n_heads
        weight, bias = self.layers[-1].weight[:stacked], self.layers[-1].bias[:stacked]
        weight = weight.view(n, self.n_heads, -1, self.outputs).transpose(1, 2).flatten(2)
        every = torch.baddbmm(bias.view(n, 1, -1), x, weight).view(n, len(tasks), self.n_heads, self.outputs)
        return every[:, torch.arange(len(tasks), device=tasks.device), tasks]


class StackedCritic(BaseModel):
    """All Q-functions, and their heads per task, as one stack.

    With heads, an observation ends with its task's one-hot. Entirely separate critics (``shared_layers`` 0) see
    the observation without it. The arguments are those of ``StackedMLP``.
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

    outputs_per_action: ClassVar[int]

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        layers: Sequence[int],
        n_heads: int = 1,
    ) -> None:
        super().__init__(observation_space, action_space, squash_output=True)
        self.n_heads = n_heads
        outputs = self.outputs_per_action * get_action_dim(action_space)
        self.net = StackedMLP(1, math.prod(observation_space.shape), layers, outputs, n_heads=n_heads)

    def outputs(self, obs: torch.Tensor, grouping: Grouping | None = None) -> torch.Tensor:
        """Return the raw outputs of the network, shape (batch, outputs)."""
        tasks = task_of(obs, self.n_heads) if self.n_heads > 1 and grouping is None else None
        return self.net(obs.to(self.net.layers[0].weight.dtype), tasks, grouping)[0]

    def _predict(self, observation: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        return self(observation, deterministic)


class GaussianActor(StackedActor):
    """SAC's actor: a Gaussian squashed by tanh, its mean and log standard deviation from one layer."""

    outputs_per_action = 2

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

    outputs_per_action = 1

    def forward(self, obs: torch.Tensor, deterministic: bool = True) -> torch.Tensor:
        """Return actions in -1 .. 1, shape (batch, action_dim)."""
        return torch.tanh(self.outputs(obs))


INITIALISATIONS = ("torch", "metaworld_algorithms")
ACTOR_OUTPUT, CRITIC_OUTPUT = 1e-3, 3e-3
"""Bounds of the last layer of actor and critics in ``metaworld_algorithms`` (its ``rl/networks.py``)."""


@torch.no_grad()
def initialise(net: StackedMLP, scheme: str, output_bound: float) -> None:
    """Draw the weights of ``net`` again as ``scheme`` does; ``torch`` leaves them as they are.

    ``metaworld_algorithms``, the code of Meta-World+ (McLean et al. 2025, github.com/rainx0r/metaworld-algorithms):
    He-uniform weights and no bias in hidden layers, a last layer uniform within ``output_bound``.

    Raises:
        ValueError: There is no such scheme.
    """
    if scheme not in INITIALISATIONS:
        raise ValueError(f"initialisation={scheme} is not one of {', '.join(INITIALISATIONS)}")
    if scheme == "torch":
        return
    for layer in net.layers[:-1]:
        bound = (6 / layer.weight.shape[1]) ** 0.5
        layer.weight.uniform_(-bound, bound)
        layer.bias.zero_()
    for parameter in net.layers[-1].parameters():
        parameter.uniform_(-output_bound, output_bound)
