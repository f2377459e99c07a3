"""One update of SAC: temperature, critics, actor, without asking the device for a single number."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.utils import clip_grad_norm_

from mtrl.algo.networks import SORTED, group_by_task
from mtrl.algo.replay import TaskSamples

if TYPE_CHECKING:
    from mtrl.algo.sac import SAC


def prepare(learner: "SAC", batch_size: int) -> TaskSamples:
    """Draw a batch; scale its rewards, and group it by task, as the options ask."""
    batch = learner.replay_buffer.sample(batch_size, env=learner._vec_normalize_env)
    if learner.reward_scaling != "none":
        batch = batch._replace(rewards=batch.rewards * learner.policy.reward_scales[batch.tasks].unsqueeze(1))
    elif learner.reward_scale != 1.0:
        batch = batch._replace(rewards=batch.rewards * learner.reward_scale)
    if not learner.has_heads:
        return batch
    grouping = SORTED if batch.sorted_by_task else group_by_task(batch.tasks, learner.n_tasks)
    return batch._replace(grouping=grouping)


def update(learner: "SAC", batch: TaskSamples) -> Tensor:
    """Make one update from what ``prepare`` returned.

    As in stable-baselines3: the temperature first, the critics towards the soft target of the old
    temperature, then the actor against the new critics; the target networks are left to the caller.
    Returns the losses of actor, critic and temperature, the mean Q-value of the batch, and the temperatures it
    was made with, shape (5,) or (4 + n_tasks,), on the device.
    """
    actions, log_prob = learner.actor.action_log_prob(batch.observations, batch.grouping)
    log_prob = log_prob.unsqueeze(1)
    temperatures = learner.temperatures()
    temperature = temperatures if temperatures.shape[0] == 1 else temperatures[batch.tasks].unsqueeze(1)
    temperature_loss = temperature.new_zeros(())
    if learner.ent_coef_optimizer is not None:
        temperature_loss = update_temperature(learner, batch, log_prob.detach())
    critic_loss, q_value = update_critics(learner, batch, temperature)

    q_values = learner.critic.q_values(batch.observations, actions, batch.grouping)
    actor_loss = (temperature * log_prob - q_values.amin(0)).mean()
    # naming the actor's parameters leaves the critics alone: no gradient of theirs is computed
    step(learner, learner.actor, actor_loss, learner.actor_parameters)
    losses = torch.stack([actor_loss.detach(), critic_loss, temperature_loss, q_value])
    return torch.cat([losses, temperatures])


def update_critics(learner: "SAC", batch: TaskSamples, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """Move the critics towards the soft Bellman target; return their loss and mean Q-value."""
    critic = learner.critic
    with torch.no_grad():
        next_actions, next_log_prob = learner.actor.action_log_prob(batch.next_observations, batch.grouping)
        next_q = learner.critic_target.q_values(batch.next_observations, next_actions, batch.grouping)
        next_value = next_q.amin(0) - temperature * next_log_prob.unsqueeze(1)
        discounts = learner.gamma if batch.discounts is None else batch.discounts
        target = torch.addcmul(batch.rewards, (1 - batch.dones) * discounts, next_value)

    q_values = critic.q_values(batch.observations, batch.actions, batch.grouping)
    # the loss is half the mean squared error, summed over the critics; its gradient is known, too
    error = q_values.detach() - target
    loss = error.square().sum() * (0.5 / target.shape[0])
    step(learner, critic, q_values, learner.critic_parameters, gradient=error / target.shape[0])
    return loss, q_values.detach().mean()


def step(
    learner: "SAC", network: Module, value: Tensor, parameters: list[Tensor], gradient: Tensor | None = None
) -> None:
    """Move a network's ``parameters`` down the slope of ``value``, whose own gradient is 1 if None is given."""
    network.optimizer.zero_grad()
    value.backward(gradient, inputs=parameters)
    if learner.max_gradient_norm is not None:
        clip_grad_norm_(parameters, learner.max_gradient_norm, foreach=True)
    network.optimizer.step()


def update_temperature(learner: "SAC", batch: TaskSamples, log_prob: Tensor) -> Tensor:
    """Move the temperatures towards the target entropy; return the loss."""
    log_temperature = learner.log_ent_coef
    with torch.no_grad():
        # the gradient of the loss, -(log_temperature * (log_prob + target_entropy)).mean(), needs no autograd
        excess = log_prob + learner.target_entropy
        if log_temperature.shape[0] == 1:
            log_temperature.grad = -excess.mean(0)
        else:
            log_temperature.grad = torch.zeros_like(log_temperature).index_add_(
                0, batch.tasks, excess[:, 0], alpha=-1 / excess.shape[0]
            )
        loss = (log_temperature * log_temperature.grad).sum()
    learner.ent_coef_optimizer.step()
    return loss


def move_targets(learner: "SAC") -> None:
    """Move the target critics a share ``tau`` towards the critics."""
    with torch.no_grad():
        torch._foreach_lerp_(learner.target_parameters, learner.critic_parameters, learner.tau)
