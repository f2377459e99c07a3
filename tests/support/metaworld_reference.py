"""Episodes of Meta-World's own environments, for the native ones to be held to."""

import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from metaworld.types import Task
from numpy.typing import NDArray

from mtrl.env.metaworld import goal_set
from mtrl.env.native.vec_env import NativeVecEnv

Policy = Callable[[NDArray[np.float64]], NDArray[Any]]


class Step(NamedTuple):
    action: NDArray[Any]
    qpos: NDArray[np.float64]
    qvel: NDArray[np.float64]
    observation: NDArray[np.float64]
    reward: float
    success: bool
    truncated: bool


def metaworld_env(task: str, reward: str = "v2") -> SawyerXYZEnv:
    return ALL_V3_ENVIRONMENTS[task](reward_function_version=reward)


def reset_to(env: SawyerXYZEnv, task: str, seed: int, goal: int) -> NDArray[np.float64]:
    data = {"env_cls": type(env), "rand_vec": goal_set(task, seed)[goal], "partially_observable": False}
    env.set_task(Task(env_name=task, data=pickle.dumps(data)))
    return env.reset()[0]


def play(
    env: SawyerXYZEnv, observation: NDArray[np.float64], policy: Policy, steps: int = 500
) -> Iterator[Step]:
    for _ in range(steps):
        # Some scripted policies change what they are given.
        action = policy(observation.copy())
        observation, reward, _, truncated, info = env.step(action)
        yield Step(
            action,
            env.data.qpos.copy(),
            env.data.qvel.copy(),
            observation.copy(),
            float(reward),
            bool(info["success"]),
            bool(truncated),
        )


def uniform(task: str, seed: int) -> Policy:
    """Uniform random actions in the box."""
    generator = np.random.default_rng(seed)
    return lambda observation: generator.uniform(-1, 1, 4).astype(np.float32)


def expert(task: str, seed: int) -> Policy:
    """Meta-World's own scripted policy for the task."""
    scripted = ENV_POLICY_MAP[task]()

    def act(observation: NDArray[np.float64]) -> NDArray[np.float32]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return scripted.get_action(observation).astype(np.float32)

    return act


def extreme(task: str, seed: int) -> Policy:
    """Corners of the box and far beyond, each held for ten steps so that the hand meets every wall."""
    generator = np.random.default_rng(seed)
    held: list[NDArray[np.float32]] = []

    def act(observation: NDArray[np.float64]) -> NDArray[np.float32]:
        if not held:
            held.extend([generator.choice([-1e6, -1.5, -1, 0, 1, 1.5, 1e6], 4).astype(np.float32)] * 10)
        return held.pop()

    return act


def expert_in_double(task: str, seed: int) -> Policy:
    """The scripted policy with a little noise, in float64, for which numpy rounds differently."""
    scripted, generator = expert(task, seed), np.random.default_rng(seed)
    return lambda observation: scripted(observation).astype(np.float64) + generator.normal(0, 0.01, 4)


def native_env(tasks: list[str], copies: int = 1, seed: int = 0, **options: Any) -> NativeVecEnv:
    assignment = [task for task in range(len(tasks)) for _ in range(copies)]
    return NativeVecEnv(tasks, assignment, [goal_set(task, seed) for task in tasks], seed=seed, **options)
