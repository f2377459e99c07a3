"""Episodes of Meta-World's own environments, for the native ones to be held to."""

import warnings
from collections import namedtuple

import numpy as np
from metaworld.policies import ENV_POLICY_MAP

from mtrl.env.metaworld import goal_set, metaworld_task
from mtrl.env.native.vec_env import NativeVecEnv

Step = namedtuple("Step", "action qpos qvel observation paid truncated")
"""``paid`` says by version of the reward what it pays, and whether it calls the task solved."""


def reset_to(env, task, seed, goal):
    env.set_task(metaworld_task(task, goal_set(task, seed)[goal]))
    return env.reset()[0]


def play(env, observation, policy, steps, rewards):
    """Play an environment that pays the v2 reward, and ask it for the v1 reward of the same steps where wanted."""
    played = []
    with warnings.catch_warnings():
        # Of the scripted policies.
        warnings.simplefilter("ignore")
        for _ in range(steps):
            # Some scripted policies change what they are given.
            action = policy(observation.copy())
            observation, reward, _, truncated, info = env.step(action)
            paid = {"v2": (float(reward), bool(info["success"]))}
            if "v1" in rewards:
                env.reward_function_version = "v1"
                # It costs more than all the rest, for an entry of the info that nobody reads here.
                env.touching_object = lambda geom: False
                reward, info = env.evaluate_state(observation, action)
                paid["v1"] = float(reward), bool(info["success"])
                env.reward_function_version = "v2"
                del env.touching_object
            state = env.data.qpos.copy(), env.data.qvel.copy()
            played.append(Step(action, *state, observation, paid, bool(truncated)))
    return played


def uniform(task, seed):
    """Uniform random actions in the box."""
    generator = np.random.default_rng(seed)
    return lambda observation: generator.uniform(-1, 1, 4).astype(np.float32)


def expert(task, seed):
    """Meta-World's own scripted policy for the task."""
    scripted = ENV_POLICY_MAP[task]()
    return lambda observation: scripted.get_action(observation).astype(np.float32)


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
