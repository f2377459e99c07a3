"""Small replay buffers and random transitions to fill them with."""

import numpy as np
from gymnasium import spaces

from mtrl.algo.replay import TaskReplayBuffer

OBS = spaces.Box(-np.inf, np.inf, (5,), np.float32)
ACTION = spaces.Box(-1, 1, (2,), np.float32)


def buffer(size=100, n_envs=3, **options):
    return TaskReplayBuffer(size, OBS, ACTION, device="cpu", n_envs=n_envs, **({"seed": 0} | options))


def vector_steps(n, n_envs=3, tasks=(0, 0, 0), seed=0, end=0.15):
    """Yield the arguments of ``add`` for n vector steps; episodes end at random, half of them by time."""
    generator = np.random.default_rng(seed)
    obs = generator.normal(size=(n_envs, 5)).astype(np.float32)
    for _ in range(n):
        next_obs = generator.normal(size=(n_envs, 5)).astype(np.float32)
        done = generator.random(n_envs) < end
        infos = [{"task_id": task} for task in tasks]
        for copy in np.flatnonzero(done):
            infos[copy]["TimeLimit.truncated"] = bool(generator.random() < 0.5)
        action = generator.uniform(-1, 1, (n_envs, 2)).astype(np.float32)
        yield obs, next_obs, action, generator.normal(size=n_envs).astype(np.float32), done, infos
        obs = next_obs


def fill(target, steps):
    for step in steps:
        target.add(*step)
    return target
