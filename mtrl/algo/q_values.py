"""The mean Q-value of algorithms that do not record it themselves."""

import numpy as np
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.algo.replay import TaskReplayBuffer
from mtrl.algo.sac import SAC


def record_q_value(model: OffPolicyAlgorithm) -> None:
    """Log ``train/q_value``, the mean over critics and one batch, where the algorithm itself does not.

    stable-baselines3's SAC, TD3 and DDPG log losses alone. The batch is spread evenly over the replay buffer, so
    that no generator is asked: training goes on exactly as it would have without a look at it.
    """
    buffer, critic = model.replay_buffer, getattr(model, "critic", None)
    # mtrl's own records it with every update; another's buffer, and what has no critic, is not known here.
    if isinstance(model, SAC) or critic is None or not isinstance(buffer, TaskReplayBuffer):
        return
    if model._n_updates == 0 or buffer.size() == 0:
        return
    batch = buffer.spread(model.batch_size, model._vec_normalize_env)
    with torch.no_grad():
        values = critic(batch.observations, batch.actions)
    means = [float(value.mean()) for value in (values if isinstance(values, tuple) else (values,))]
    model.logger.record("train/q_value", float(np.mean(means)))
