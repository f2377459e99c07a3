"""A small environment for learners: a point that drifts, for several tasks."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

OBS, ACTIONS = 6, 2


class Drift(gym.Env):
    """Observations depend on actions and on a generator; rewards of task t are 1 + 9 t times those of task 0."""

    action_space = spaces.Box(-1, 1, (ACTIONS,), np.float32)

    def __init__(self, task=0, n_tasks=1, one_hot=True):
        self.task, self.one_hot = task, np.eye(n_tasks)[task] if one_hot and n_tasks > 1 else np.zeros(0)
        self.observation_space = spaces.Box(-np.inf, np.inf, (OBS + len(self.one_hot),), np.float32)

    def _obs(self):
        return np.concatenate([self.state, self.one_hot]).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.state = 0, self.np_random.normal(size=OBS)
        return self._obs(), {}

    def step(self, action):
        self.steps += 1
        self.state = 0.9 * self.state + 0.1 * self.np_random.normal(size=OBS)
        self.state[:ACTIONS] += 0.3 * np.asarray(action)
        reward = (1 + 9 * self.task) * float(np.exp(-np.square(self.state).sum()))
        return self._obs(), reward, False, self.steps == 20, {"task_id": self.task}


def envs(n_tasks=1, copies=2, one_hot=True):
    tasks = [task for task in range(n_tasks) for _ in range(copies)]
    return DummyVecEnv([lambda task=task: Drift(task, n_tasks, one_hot) for task in tasks])
