"""Episodes of Meta-World's own environments, for the native ones to be held to."""

import pickle
import warnings
from collections import namedtuple

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP
from metaworld.types import Task

from mtrl.env.metaworld import goal_set
from mtrl.env.native.vec_env import NativeVecEnv

Step = namedtuple("Step", "action qpos qvel observation reward success truncated")


def metaworld_env(task, reward="v2"):
    return ALL_V3_ENVIRONMENTS[task](reward_function_version=reward)


def reset_to(env, task, seed, goal):
    data = {"env_cls": type(env), "rand_vec": goal_set(task, seed)[goal], "partially_observable": False}
    env.set_task(Task(env_name=task, data=pickle.dumps(data)))
    return env.reset()[0]


def play(env, observation, policy, steps=500):
    for _ in range(steps):
        # Some scripted policies change what they are given.
        action = policy(observation.copy())
        observation, reward, _, truncated, info = env.step(action)
        qpos, qvel, success = env.data.qpos.copy(), env.data.qvel.copy(), bool(info["success"])
        yield Step(action, qpos, qvel, observation.copy(), float(reward), success, bool(truncated))


def uniform(task, seed):
    """Uniform random actions in the box."""
    generator = np.random.default_rng(seed)
    return lambda observation: generator.uniform(-1, 1, 4).astype(np.float32)


def expert(task, seed):
    """Meta-World's own scripted policy for the task."""
    scripted = ENV_POLICY_MAP[task]()

    def act(observation):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return scripted.get_action(observation).astype(np.float32)

    return act


def extreme(task, seed):
    """Corners of the box and far beyond, each held for ten steps so that the hand meets every wall."""
    generator, held = np.random.default_rng(seed), []

    def act(observation):
        if not held:
            held.extend([generator.choice([-1e6, -1.5, -1, 0, 1, 1.5, 1e6], 4).astype(np.float32)] * 10)
        return held.pop()

    return act


def expert_in_double(task, seed):
    """The scripted policy with a little noise, in float64, for which numpy rounds differently."""
    scripted, generator = expert(task, seed), np.random.default_rng(seed)
    return lambda observation: scripted(observation).astype(np.float64) + generator.normal(0, 0.01, 4)


def native_env(tasks, copies=1, seed=0, **options):
    assignment = [task for task in range(len(tasks)) for _ in range(copies)]
    return NativeVecEnv(tasks, assignment, [goal_set(task, seed) for task in tasks], seed=seed, **options)
