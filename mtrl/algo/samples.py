"""What the replay buffer gives to an update."""

from typing import NamedTuple

import torch


class TaskSamples(NamedTuple):
    """A batch: the fields of stable-baselines3's ReplayBufferSamples, the tasks, and how they lie."""

    observations: torch.Tensor
    """Shape (batch, obs_dim)."""
    actions: torch.Tensor
    """Shape (batch, action_dim), scaled to -1 .. 1."""
    next_observations: torch.Tensor
    """Shape (batch, obs_dim); n steps later with n-step returns."""
    dones: torch.Tensor
    """Shape (batch, 1); 1 where the episode terminated. A time limit does not count."""
    rewards: torch.Tensor
    """Shape (batch, 1); the discounted sum over n steps with n-step returns."""
    discounts: torch.Tensor | None
    """Shape (batch, 1), gamma to the number of steps summed; None with one-step returns."""
    tasks: torch.Tensor
    """Shape (batch,), int64."""
    sorted_by_task: bool
    """Whether the batch holds equally many transitions of every task, in the order of the tasks."""
