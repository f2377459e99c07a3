"""What the benchmark of learners compares: stable-baselines3's, ours, and ours with a loop over task masks.

None of them has environments to step: their buffers hold random transitions of MT10's shape.
"""

from typing import Any, NamedTuple

import numpy as np

TASKS = 10
TRANSITIONS = 5_000
"""Random transitions in each replay buffer."""


class Size(NamedTuple):
    """Widths of the layers of actor and critics, and the number of transitions in a batch."""

    layers: list[int]
    batch: int
    layer_norm: bool = False


def stable_baselines3_sac(size: Size, device: str) -> Any:
    """Return stable-baselines3's SAC."""
    from stable_baselines3 import SAC

    return _make(SAC, size, device, {"net_arch": size.layers})


def own_sac(size: Size, device: str, compile: str, *, balanced: bool = False, **policy: Any) -> Any:
    """Return our SAC for ten tasks, with ``policy`` as further arguments of its policy."""
    from mtrl.algo.sac import SAC

    policy |= {"actor_layers": size.layers, "critic_layers": size.layers, "layer_norm": size.layer_norm}
    return _make(SAC, size, device, policy, n_tasks=TASKS, balanced_batches=balanced, compile=compile)


def _make(algorithm: type, size: Size, device: str, policy: dict[str, Any], **options: Any) -> Any:
    """Return a learner whose buffer is full of random transitions, ten tasks in turn."""
    import gymnasium
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Shape(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (39 + TASKS,), np.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)

    env = DummyVecEnv([Shape for _ in range(TASKS)])
    options |= {"buffer_size": TRANSITIONS, "batch_size": size.batch, "device": device, "seed": 0}
    learner = algorithm("MlpPolicy", env, policy_kwargs=policy, **options)
    learner.set_logger(Logger(None, []))
    generator = np.random.default_rng(0)
    infos = [{"task_id": task} for task in range(TASKS)]
    done = np.zeros(TASKS, dtype=bool)
    for _ in range(TRANSITIONS // TASKS):
        states = generator.normal(size=(2, TASKS, 39))
        observations = [np.hstack([state, np.eye(TASKS)]).astype(np.float32) for state in states]
        actions = generator.uniform(-1, 1, (TASKS, 4)).astype(np.float32)
        learner.replay_buffer.add(*observations, actions, generator.random(TASKS), done, infos)
    return learner


def with_masks(learner: Any) -> Any:
    """Give the learner ten separate critics that a loop over task masks evaluates."""
    import torch
    from torch import nn

    from mtrl.algo.networks import StackedMLP
    from mtrl.algo.optimizer import FusedAdam

    class MaskedCritics(nn.Module):
        n_heads = 1

        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleList(StackedMLP(2, 39 + TASKS + 4, [256] * 3, 1) for _ in range(TASKS))

        def q_values(self, obs: torch.Tensor, actions: torch.Tensor, grouping: None) -> torch.Tensor:
            inputs = torch.cat([obs, actions], dim=1)
            tasks = obs[:, -TASKS:].argmax(1)
            values = torch.zeros(2, len(obs), 1, device=obs.device)
            for task, head in enumerate(self.heads):
                mask = tasks == task
                if mask.any():
                    values[:, mask] = head(inputs[mask])
            return values

    learner.critic, learner.critic_target = (MaskedCritics().to(learner.device) for _ in range(2))
    learner.critic.optimizer = FusedAdam(learner.critic.parameters())
    learner.critic_parameters = list(learner.critic.parameters())
    learner.target_parameters = list(learner.critic_target.parameters())
    return learner
