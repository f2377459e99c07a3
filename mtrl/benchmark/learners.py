"""What the benchmark of learners compares: stable-baselines3's, ours, and ours with a loop over task masks.

None of them has environments to step: their buffers hold random transitions of MT10's shape.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

TASKS = 10
TRANSITIONS = 5_000
"""Random transitions in each replay buffer."""


class Size(NamedTuple):
    """Widths of the networks and the number of transitions in a batch."""

    actor: Sequence[int]
    critic: Sequence[int]
    batch: int
    layer_norm: bool = False


def stable_baselines3_sac(size: Size, device: str) -> Any:
    """Return stable-baselines3's SAC."""
    from stable_baselines3 import SAC

    layers = {"pi": list(size.actor), "qf": list(size.critic)}
    learner = SAC("MlpPolicy", _env(), policy_kwargs={"net_arch": layers}, **_arguments(size, device))
    return _filled(learner)


def own_sac(size: Size, device: str, compile: str, *, balanced: bool = False, **policy: Any) -> Any:
    """Return our SAC for ten tasks, with ``policy`` as further arguments of its policy."""
    from mtrl.algo.sac import SAC

    policy |= {"actor_layers": size.actor, "critic_layers": size.critic, "layer_norm": size.layer_norm}
    learner = SAC(
        "MlpPolicy",
        _env(),
        n_tasks=TASKS,
        balanced_batches=balanced,
        compile=compile,
        policy_kwargs=policy,
        **_arguments(size, device),
    )
    return _filled(learner)


def _arguments(size: Size, device: str) -> dict[str, Any]:
    return {"buffer_size": TRANSITIONS, "batch_size": size.batch, "device": device, "seed": 0}


def _env() -> Any:
    """Return environments of MT10's shape that are never stepped."""
    import gymnasium
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Shape(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (39 + TASKS,), np.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)

    return DummyVecEnv([Shape for _ in range(TASKS)])


def _filled(learner: Any) -> Any:
    """Fill the buffer with random transitions, ten tasks in turn."""
    from stable_baselines3.common.logger import Logger

    generator = np.random.default_rng(0)
    infos = [{"task_id": task} for task in range(TASKS)]
    done = np.zeros(TASKS, dtype=bool)
    for _ in range(TRANSITIONS // TASKS):
        observations = [
            np.concatenate([generator.normal(size=(TASKS, 39)), np.eye(TASKS)], axis=1).astype(np.float32)
            for _ in range(2)
        ]
        actions = generator.uniform(-1, 1, (TASKS, 4)).astype(np.float32)
        learner.replay_buffer.add(*observations, actions, generator.random(TASKS), done, infos)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner.set_logger(Logger(None, []))
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
