"""One update of SAC: temperature, critics, actor, without asking the device for a single number."""

from typing import TYPE_CHECKING, NamedTuple

import torch

from mtrl.networks import SORTED, Grouping, group_by_task

if TYPE_CHECKING:
    from mtrl.algo.sac import SAC


class Batch(NamedTuple):
    """What one update learns from."""

    observations: torch.Tensor
    actions: torch.Tensor
    next_observations: torch.Tensor
    continues: torch.Tensor
    """Discount of the next value, 0 where the episode terminated, shape (batch, 1)."""
    rewards: torch.Tensor
    tasks: torch.Tensor | None
    """Task of each transition, shape (batch,); None where nothing depends on it."""
    grouping: Grouping | None
    """Where the heads per task find their transitions; None without heads."""


def prepare(learner: "SAC", batch_size: int) -> Batch:
    """Draw a batch; scale its rewards, and group it by task, as the options ask."""
    data = learner.replay_buffer.sample(batch_size, env=learner._vec_normalize_env)
    tasks = getattr(data, "tasks", None)
    discounts = learner.gamma if data.discounts is None else data.discounts
    rewards = data.rewards
    if learner.reward_scaling == "per_task":
        rewards = rewards * learner.policy.reward_scales[tasks].unsqueeze(1)
    elif learner.reward_scale != 1.0:
        rewards = rewards * learner.reward_scale
    grouping = None
    if learner.has_heads:
        grouping = SORTED if data.sorted_by_task else group_by_task(tasks, learner.n_tasks)
    return Batch(
        data.observations,
        data.actions,
        data.next_observations,
        (1 - data.dones) * discounts,
        rewards,
        tasks,
        grouping,
    )


def update(learner: "SAC", batch: Batch) -> torch.Tensor:
    """Make one update from ``batch``.

    As in stable-baselines3: the temperature first, the critics towards the soft target of the old
    temperature, then the actor against the new critics; the target networks are left to the caller.

    Returns:
        Losses of actor, critic and temperature, the mean Q-value of the batch, and the temperatures it was
        made with, shape (5,) or (4 + n_tasks,), on the device.
    """
    actor, critic, grouping = learner.actor, learner.critic, batch.grouping
    actor_grouping = grouping if actor.n_heads > 1 else None
    critic_grouping = grouping if critic.n_heads > 1 else None

    actions, log_prob = actor.action_log_prob(batch.observations, actor_grouping)
    log_prob = log_prob.unsqueeze(1)

    # the gradient of the temperature's loss, -(log_temperature * (log_prob + target_entropy)).mean(), is
    # known
    temperatures = learner.temperatures()
    temperature = temperatures if len(temperatures) == 1 else temperatures[batch.tasks].unsqueeze(1)
    temperature_loss = temperature.new_zeros(())
    if learner.ent_coef_optimizer is not None:
        with torch.no_grad():
            excess = log_prob + learner.target_entropy
            log_temperature = learner.log_ent_coef
            if len(log_temperature) == 1:
                log_temperature.grad = -excess.mean(0)
            else:
                log_temperature.grad = torch.zeros_like(log_temperature).index_add_(
                    0, batch.tasks, excess[:, 0], alpha=-1 / len(excess)
                )
            temperature_loss = (log_temperature * log_temperature.grad).sum()
        learner.ent_coef_optimizer.step()

    with torch.no_grad():
        next_actions, next_log_prob = actor.action_log_prob(batch.next_observations, actor_grouping)
        next_q = learner.critic_target.q_values(batch.next_observations, next_actions, critic_grouping)
        next_value = next_q.amin(0) - temperature * next_log_prob.unsqueeze(1)
        target = torch.addcmul(batch.rewards, batch.continues, next_value)

    q_values = critic.q_values(batch.observations, batch.actions, critic_grouping)
    # the loss is half the mean squared error, summed over the critics; its gradient is known, too
    error = q_values.detach() - target
    critic_loss = error.square().sum() * (0.5 / len(target))
    learner.critic.optimizer.zero_grad()
    q_values.backward(error / len(target), inputs=learner.critic_parameters)
    learner.clip_gradient(learner.critic_parameters)
    learner.critic.optimizer.step()

    # naming the actor's parameters leaves the critics alone: no gradient of theirs is computed
    q_of_policy = critic.q_values(batch.observations, actions, critic_grouping).amin(0)
    actor_loss = (temperature * log_prob - q_of_policy).mean()
    learner.actor.optimizer.zero_grad()
    actor_loss.backward(inputs=learner.actor_parameters)
    learner.clip_gradient(learner.actor_parameters)
    learner.actor.optimizer.step()

    measured = torch.stack([actor_loss.detach(), critic_loss, temperature_loss, q_values.detach().mean()])
    return torch.cat([measured, temperatures])
