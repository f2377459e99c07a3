"""From the configuration to a stable-baselines3 agent: the one place that knows all arguments."""

from fractions import Fraction
from itertools import count
from typing import Any

import numpy as np
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from mtrl.algo.policies import policy_for
from mtrl.algo.replay import TaskReplayBuffer
from mtrl.algo.sac import SAC
from mtrl.config import types
from mtrl.config.types import AlgoConfig, Config, HardwareConfig, load_class
from mtrl.errors import ConfigurationError
from mtrl.tasks import ACTION_SIZE


def make_agent(cfg: Config, env: VecEnv, hardware: HardwareConfig) -> OffPolicyAlgorithm:
    """Return the agent of ``cfg`` on ``env``; ConfigurationError if the algorithm refuses ``algo.kwargs``."""
    algorithm = load_class(cfg.algo.cls)
    policy, policy_kwargs = policy_for(algorithm, cfg.variant, len(cfg.env.tasks))
    if cfg.transfer.active and "actor" in cfg.transfer.parts:

        class ActingFromTheStart(algorithm):
            # Before learning_starts, which here only says when updates begin, stable-baselines3 draws random actions.
            def _sample_action(self, learning_starts: int, *args: Any, **kwargs: Any) -> Any:
                return super()._sample_action(0, *args, **kwargs)

        algorithm = ActingFromTheStart
    arguments = arguments_of(cfg, env.num_envs, hardware.device, hardware.compile)
    arguments |= {"policy_kwargs": policy_kwargs}
    try:
        return algorithm(policy, env, **arguments | cfg.algo.kwargs)
    except (TypeError, ValueError, AssertionError) as error:
        if not cfg.algo.kwargs:
            raise
        # If the constructor fails without them too, they are not to blame, and that error leaves this function.
        algorithm(policy, env, **arguments)
        given = " ".join(f"algo.kwargs.{key}={value}" for key, value in cfg.algo.kwargs.items())
        reason = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0].rstrip(": ")
        raise ConfigurationError(
            f"algo.cls={cfg.algo.cls} refuses {given} ({reason}): correct the value"
        ) from error


def arguments_of(cfg: Config, n_envs: int, device: str, compile: str) -> dict[str, Any]:
    """Return what the typed keys give the algorithm's class besides its policy and environment."""
    algo, n_tasks = cfg.algo, len(cfg.env.tasks)
    train_freq, gradient_steps = update_schedule(algo, n_envs)
    same = ("buffer_size", "learning_starts", "batch_size", "tau", "gamma")
    arguments: dict[str, Any] = {name: getattr(algo, name) for name in same}
    arguments |= {"learning_rate": cfg.learning_rate, "seed": cfg.seed, "device": device}
    arguments |= {"train_freq": train_freq, "gradient_steps": gradient_steps}
    if isinstance(algo, types.DDPGConfig):
        deviation = np.full(ACTION_SIZE, algo.action_noise)
        arguments["action_noise"] = NormalActionNoise(np.zeros(ACTION_SIZE), deviation)
    if isinstance(algo, types.TD3Config):
        names = ("policy_delay", "target_policy_noise", "target_noise_clip")
        arguments |= {name: getattr(algo, name) for name in names}
    if isinstance(algo, types.SACConfig):
        arguments |= {"ent_coef": algo.ent_coef, "target_entropy": algo.target_entropy}
    if issubclass(load_class(algo.cls), SAC):
        # It makes its replay buffer from its own options.
        arguments |= {name: getattr(algo, name) for name in types.OWN_OPTIONS}
        return arguments | {"n_steps": algo.n_steps, "n_tasks": n_tasks, "compile": compile}
    replay = {"n_tasks": n_tasks, "n_steps": algo.n_steps, "gamma": algo.gamma, "seed": cfg.seed}
    replay["one_hot"] = isinstance(cfg.variant, types.MultiheadConfig)
    return arguments | {"replay_buffer_class": TaskReplayBuffer, "replay_buffer_kwargs": replay}


def update_schedule(algo: AlgoConfig, n_envs: int) -> tuple[int, int]:
    """Return how many vector steps stable-baselines3 collects at a time, and how many updates it then makes.

    One update in ten environment steps with 4 copies is 2 updates every 5 vector steps. Of all ratios within 1 % of
    the one asked for, it is that with the smallest numbers, and of several the nearest: 0.333 is 1 update every 3
    steps. A signal waits until the updates after a rollout are over; 333 of them every 1000 steps would take long.
    """
    asked = Fraction(algo.updates) * (n_envs if algo.updates_per == "environment_step" else 1)
    schedules = ((round(n / asked), n) if asked < 1 else (n, round(n * asked)) for n in count(1))
    close = (each for each in schedules if abs(Fraction(each[1], each[0]) - asked) <= asked / 100)
    return next(close)
