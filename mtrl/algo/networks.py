"""Actors and critics as stacks of networks that are evaluated at once, with stable-baselines3's interface."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(slots=True)
class Architecture:
    """The networks of a stacked policy: what its constructor takes besides stable-baselines3's own arguments."""

    actor_layers: Sequence[int] = (256, 256)
    critic_layers: Sequence[int] = (256, 256)
    layer_norm: bool = False  # normalise the hidden layers of the critics
    n_critics: int = 2
    n_tasks: int = 1
    critic_heads: bool = False  # critic heads per task; observations then end with the task's one-hot
    shared_layers: int | None = None  # hidden layers that the critic's heads share, None for all
    actor_heads: bool = False  # a linear actor head per task; as critic_heads
    initialisation: str = "torch"  # how the first weights are drawn, see initialise
    temperature: str = "shared"  # per_task is what only mtrl.algo.SAC learns


class Grouping(NamedTuple):
    """Where each transition of a batch goes so that the rows of one task lie together, equally many per task.

    ``gather`` (n_tasks * rows,) names the transition in each place, ``scatter`` (batch,) the place of each
    transition. Places that no transition fills repeat the first one; their results are never read.
    Where few tasks have most of the batch, such places would outnumber the transitions: ``shares`` then says how
    many transitions each task has, no place is empty, and the heads are evaluated one task after the other.
    """

    gather: Tensor | None
    scatter: Tensor | None
    shares: list[int] | None = None


SORTED = Grouping(None, None)
"""The grouping of a batch sorted by task with the same number of transitions of each."""
_MOST_PLACES = 2
"""Places per transition up to which equally many for every task are cheaper than a product for each."""


def group_by_task(tasks: Tensor, n_tasks: int) -> Grouping:
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


class Stacked(nn.Module):
    """``n`` layers side by side: ``weight`` (n, inputs, outputs), ``bias`` (n, 1, outputs), or of norms."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)


class StackedMLP(nn.Module):
    """``n`` multi-layer perceptrons with ReLU, the upper layers of each split into one head per task.

    ``layers`` has the widths of the hidden layers, which ``layer_norm`` normalises before their ReLU. ``n_heads`` is
    the number of tasks that have a head of their own, 1 for a network without heads; ``shared_layers`` is how many
    hidden layers the heads share, None for all, which leaves linear heads. Of the layers that are split, number
    ``i * n_heads + t`` belongs to network ``i`` and task ``t``.
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
            self.shared_layers = len(layers) + 1  # the last layer, too
        widths = [inputs, *layers, outputs]
        copies = [n * (n_heads if index >= self.shared_layers else 1) for index in range(len(layers) + 1)]
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        for k, inputs, outputs in zip(copies, widths, widths[1:], strict=False):
            bound = inputs**-0.5  # as torch.nn.Linear has it
            weight = torch.empty(k, inputs, outputs).uniform_(-bound, bound)
            self.layers.append(Stacked(weight, torch.empty(k, 1, outputs).uniform_(-bound, bound)))
        for k, width in zip(copies, layers if layer_norm else [], strict=False):
            self.norms.append(Stacked(torch.ones(k, 1, width), torch.zeros(k, 1, width)))

    def tasks_of(self, obs: Tensor, grouping: Grouping | None) -> Tensor | None:
        """Return what ``forward`` must know of the tasks, from the one-hot at the end of the observations."""
        return obs[:, -self.n_heads :].argmax(1) if self.n_heads > 1 and grouping is None else None

    def forward(
        self, x: Tensor, tasks: Tensor | None = None, grouping: Grouping | None = None, n: int | None = None
    ) -> Tensor:
        """Map ``x`` (batch, inputs) to (n, batch, outputs) by the first ``n`` networks (None: all).

        Heads need the ``tasks`` (batch,), or the batch's ``grouping`` by task where the caller knows it.
        """
        n, split, depth = n or self.n, self.shared_layers, len(self.layers)
        x = self._evaluate(x.expand(n, *x.shape), range(split), _first)
        if split == depth:
            return x
        if grouping is None and split == depth - 1:
            return self._gather_linear_heads(x, tasks)
        grouping = grouping or group_by_task(tasks, self.n_heads)
        if grouping.gather is not None:
            x = x.index_select(1, grouping.gather)
        if grouping.shares is None:
            x = x.reshape(n * self.n_heads, -1, x.shape[-1])
            x = self._evaluate(x, range(split, depth), _first).view(n, -1, self.outputs)
        else:
            x = self._task_by_task(x, grouping.shares)
        return x if grouping.scatter is None else x.index_select(1, grouping.scatter)

    def _evaluate(self, x: Tensor, indices: range, take: Callable[[nn.Parameter, int], Tensor]) -> Tensor:
        """Map (k, rows, width) by the layers ``indices``, of each the k networks' parameters that ``take`` returns."""
        for index in indices:
            layer = self.layers[index]
            x = torch.baddbmm(take(layer.bias, len(x)), x, take(layer.weight, len(x)))
            if index == len(self.layers) - 1:
                return x
            if self.norms:
                # torch's own gain and bias are the same for every network; without some it is not vectorised
                norm, units = self.norms[index], _units(x.shape[-1], x.dtype, x.device)
                gain, shift = take(norm.weight, len(x)), take(norm.bias, len(x))
                x = torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], *units), gain)
            x = torch.relu_(x)
        return x

    def _task_by_task(self, x: Tensor, shares: list[int]) -> Tensor:
        """Evaluate the heads on (n, batch, width) sorted by task, for each task that has a share."""
        indices = range(self.shared_layers, len(self.layers))
        modules = [*self.layers[self.shared_layers :], *self.norms[self.shared_layers :]]
        # unbound once, or the gradient of every head would be as large as that of all
        parameters = [parameter for module in modules for parameter in module.parameters()]
        heads = {p: p.view(self.n, self.n_heads, *p.shape[1:])[: len(x)].unbind(1) for p in parameters}
        results = [
            self._evaluate(rows, indices, lambda parameter, _, task=task: heads[parameter][task])
            for task, rows in enumerate(x.split(shares, dim=1))
            if shares[task]
        ]
        return torch.cat(results, dim=1)

    def _gather_linear_heads(self, x: Tensor, tasks: Tensor) -> Tensor:
        """Evaluate every linear head on every row and keep its own: cheaper than sorting a few rows."""
        n, stacked = len(x), len(x) * self.n_heads
        weight, bias = self.layers[-1].weight[:stacked], self.layers[-1].bias[:stacked]
        weight = weight.view(n, self.n_heads, -1, self.outputs).transpose(1, 2).flatten(2)
        every = torch.baddbmm(bias.view(n, 1, -1), x, weight).view(n, len(tasks), self.n_heads, self.outputs)
        return every[:, torch.arange(len(tasks), device=tasks.device), tasks]


def _first(parameter: Tensor, k: int) -> Tensor:
    """Return the first k layers of a stack; all of them without a view, whose gradient would be a copy."""
    return parameter if k == len(parameter) else parameter[:k]


@cache
def _units(width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.ones(width, dtype=dtype, device=device), torch.zeros(width, dtype=dtype, device=device)


@torch.no_grad()
def initialise(net: StackedMLP, scheme: str, output_bound: float) -> None:
    """Draw the weights of ``net`` again as ``scheme`` does; ``torch`` leaves them as they are.

    ``metaworld_algorithms``, the code of Meta-World+ (McLean et al. 2025, github.com/rainx0r/metaworld-algorithms, its
    ``rl/networks.py``): He-uniform weights and no bias in hidden layers, a last layer within ``output_bound``.
    """
    if scheme == "torch":
        return
    if scheme != "metaworld_algorithms":
        raise ValueError(f"initialisation={scheme} is not one of torch, metaworld_algorithms")
    for layer in net.layers[:-1]:
        bound = (6 / layer.weight.shape[1]) ** 0.5
        layer.weight.uniform_(-bound, bound)
        layer.bias.zero_()
    for parameter in net.layers[-1].parameters():
        parameter.uniform_(-output_bound, output_bound)


class StackedCritic(BaseModel):
    """All Q-functions, and their heads per task, as one stack.

    With heads, an observation ends with its task's one-hot, which entirely separate critics do not see.
    """

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Box, of: Architecture) -> None:
        super().__init__(observation_space, action_space)
        self.n_critics, self.n_heads = of.n_critics, of.n_tasks if of.critic_heads else 1
        self.obs_dim = math.prod(observation_space.shape)
        if self.n_heads > 1 and of.shared_layers == 0:
            # to a network that one task has to itself the one-hot is a constant
            self.obs_dim -= self.n_heads
        inputs, heads = self.obs_dim + get_action_dim(action_space), (self.n_heads, of.shared_layers)
        self.net = StackedMLP(of.n_critics, inputs, of.critic_layers, 1, of.layer_norm, *heads)
        initialise(self.net, of.initialisation, output_bound=3e-3)

    def q_values(
        self, obs: Tensor, actions: Tensor, grouping: Grouping | None = None, n_critics: int | None = None
    ) -> Tensor:
        """Return the Q-values of the first ``n_critics`` (None: all), shape (n_critics, batch, 1)."""
        inputs = torch.cat([obs[:, : self.obs_dim], actions], dim=1)
        return self.net(inputs, self.net.tasks_of(obs, grouping), grouping, n_critics)

    def forward(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        """Return each critic's Q-values, shape (batch, 1): stable-baselines3's interface."""
        return self.q_values(obs, actions).unbind(0)

    def q1_forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Return the first critic's Q-values, shape (batch, 1)."""
        return self.q_values(obs, actions, n_critics=1)[0]


class StackedActor(BasePolicy):
    """What the actors of SAC and TD3 have in common: a trunk, and optionally a linear head per task."""

    outputs_per_action = 1

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Box, of: Architecture) -> None:
        super().__init__(observation_space, action_space, squash_output=True)
        self.n_heads = of.n_tasks if of.actor_heads else 1
        inputs, outputs = (
            math.prod(observation_space.shape),
            self.outputs_per_action * get_action_dim(action_space),
        )
        self.net = StackedMLP(1, inputs, of.actor_layers, outputs, n_heads=self.n_heads)
        initialise(self.net, of.initialisation, output_bound=1e-3)

    def outputs(self, obs: Tensor, grouping: Grouping | None = None) -> Tensor:
        """Return the raw outputs of the network, shape (batch, outputs)."""
        tasks = self.net.tasks_of(obs, grouping)
        return self.net(obs.to(self.net.layers[0].weight.dtype), tasks, grouping)[0]

    def _predict(self, observation: Tensor, deterministic: bool = False) -> Tensor:
        return self(observation, deterministic)


class GaussianActor(StackedActor):
    """SAC's actor: a Gaussian squashed by tanh, its mean and log standard deviation from one layer."""

    outputs_per_action = 2

    def forward(self, obs: Tensor, deterministic: bool = False) -> Tensor:
        """Return actions in -1 .. 1, shape (batch, action_dim)."""
        mean, log_std = self.outputs(obs).chunk(2, dim=1)
        if deterministic:
            return torch.tanh(mean)
        std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
        return torch.tanh(torch.addcmul(mean, torch.randn_like(mean), std))

    def action_log_prob(self, obs: Tensor, grouping: Grouping | None = None) -> tuple[Tensor, Tensor]:
        """Return sampled actions (batch, action_dim) and their log-probabilities (batch,).

        Appendix C of SAC (Haarnoja et al. 2018, arXiv:1801.01290); its (x - mean) / std is the noise, 1e-6 as SB3.
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

    def forward(self, obs: Tensor, deterministic: bool = True) -> Tensor:
        """Return actions in -1 .. 1, shape (batch, action_dim)."""
        return torch.tanh(self.outputs(obs))
