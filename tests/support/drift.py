"""A small environment for learners, and whether a learner goes on alike after it was saved and loaded."""

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
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


def assert_continues_alike(model, path):
    """Save and load ``model`` and its transitions: both act and learn on in the same way."""
    model.save(path / "model.zip")
    loaded = type(model).load(path / "model.zip", env=model.env)
    buffer = model.replay_buffer
    low = buffer.total_added - buffer.size()
    loaded.replay_buffer.restore(low, [buffer.rows(low, buffer.total_added)])
    loaded.replay_buffer.set_state(buffer.get_state())
    obs = model.env.reset()
    actions = [each.predict(obs, deterministic=True)[0] for each in (model, loaded)]
    assert np.array_equal(*actions)
    before = weights(loaded)
    assert_equal(before, weights(model))
    for each in (model, loaded):
        each.set_logger(Logger(None, []))
        torch.manual_seed(0)
        each.train(3, model.batch_size)
    assert_equal(weights(model), weights(loaded))
    assert any(not torch.equal(before[name], value) for name, value in weights(loaded).items())
    assert model.logger.name_to_value == loaded.logger.name_to_value


def weights(model):
    tensors = {name: value.clone() for name, value in model.policy.state_dict().items()}
    temperature = getattr(model, "log_ent_coef", None)
    return tensors if temperature is None else tensors | {"log_ent_coef": temperature.detach().clone()}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
