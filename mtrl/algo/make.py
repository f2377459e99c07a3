"""From the configuration to a stable-baselines3 agent: the one place that knows all arguments."""

from fractions import Fraction
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from mtrl.algo.policies import policy_for
from mtrl.algo.replay import TaskReplayBuffer
from mtrl.algo.rollout import acting_from_the_start
from mtrl.algo.sac import SAC
from mtrl.checks import load_class
from mtrl.config import OWN_OPTIONS, AlgoConfig, Config, DDPGConfig, MultiheadConfig, SACConfig, TD3Config
from mtrl.errors import ConfigurationError
from mtrl.hardware import Hardware
from mtrl.tasks import ACTION_SIZE


def make_agent(cfg: Config, env: VecEnv, hardware: Hardware) -> OffPolicyAlgorithm:
    """Return the agent of ``cfg`` on ``env``.

    Raises:
        ConfigurationError: The algorithm refuses ``algo.kwargs``.
    """
    policy, policy_kwargs = policy_of(cfg)
    arguments = arguments_of(cfg, env.num_envs, hardware.device, hardware.compile)
    algorithm = load_class(cfg.algo.cls)
    if cfg.transfer.active and "actor" in cfg.transfer.parts:
        algorithm = acting_from_the_start(algorithm)
    make = partial(algorithm, policy, env, policy_kwargs=policy_kwargs)
    try:
        return make(**arguments | cfg.algo.kwargs)
    except (TypeError, ValueError, AssertionError) as error:
        if not cfg.algo.kwargs:
            raise
        # What fails without them too is not their fault: it goes on from here.
        make(**arguments)
        said = " ".join(f"algo.kwargs.{key}={value}" for key, value in cfg.algo.kwargs.items())
        what = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0].rstrip(": ")
        raise ConfigurationError(
            f"algo.cls={cfg.algo.cls} refuses {said} ({what}): correct the value"
        ) from error


def arguments_of(cfg: Config, n_envs: int, device: str, compile: str) -> dict[str, Any]:
    """Return what the typed keys give the algorithm's class beside its policy and environment."""
    n_tasks = len(cfg.env.tasks)
    train_freq, gradient_steps = update_schedule(cfg.algo, n_envs)
    arguments: dict[str, Any] = {
        "learning_rate": cfg.learning_rate,
        "buffer_size": cfg.algo.buffer_size,
        "learning_starts": cfg.algo.learning_starts,
        "batch_size": cfg.algo.batch_size,
        "tau": cfg.algo.tau,
        "gamma": cfg.algo.gamma,
        "train_freq": train_freq,
        "gradient_steps": gradient_steps,
        "seed": cfg.seed,
        "device": device,
    }
    own = issubclass(load_class(cfg.algo.cls), SAC)
    return arguments | _replay(cfg, n_tasks, own) | _own_arguments(cfg.algo, n_tasks, own, compile)


def policy_of(cfg: Config) -> tuple[type[BasePolicy] | str, dict[str, Any]]:
    """Return the policy of ``cfg`` and its arguments, as the algorithm's class takes them."""
    heads = cfg.variant if isinstance(cfg.variant, MultiheadConfig) else None
    return policy_for(
        load_class(cfg.algo.cls),
        cfg.variant.name,
        len(cfg.env.tasks),
        actor_layers=cfg.variant.actor_layers,
        critic_layers=cfg.variant.critic_layers,
        layer_norm=cfg.variant.layer_norm,
        initialisation=cfg.variant.initialisation,
        shared_layers=heads.shared_layers if heads else None,
        actor_heads=heads.actor_heads if heads else False,
    )


def update_schedule(algo: AlgoConfig, n_envs: int) -> tuple[int, int]:
    """Return how many vector steps stable-baselines3 collects at a time, and how many updates it then makes.

    One update in ten environment steps with 4 copies is 2 updates every 5 vector steps. Of all ratios within 1 % of
    the one asked for, it is that with the smallest numbers, and of several the nearest: 0.333 is 1 update every 3
    steps. A signal waits until a row of updates is over, so 333 of them every 1000 would hold it up for long.
    """
    asked = Fraction(algo.updates) * (n_envs if algo.updates_per == "environment_step" else 1)
    schedules = ((round(n / asked), n) if asked < 1 else (n, round(n * asked)) for n in count(1))
    return next(
        (steps, updates)
        for steps, updates in schedules
        if abs(Fraction(updates, steps) - asked) <= asked / 100
    )


def _replay(cfg: Config, n_tasks: int, own: bool) -> dict[str, Any]:
    if own:
        return {"n_steps": cfg.algo.n_steps}
    options = {"n_tasks": n_tasks, "n_steps": cfg.algo.n_steps, "gamma": cfg.algo.gamma, "seed": cfg.seed}
    options["one_hot"] = isinstance(cfg.variant, MultiheadConfig)
    return {"replay_buffer_class": TaskReplayBuffer, "replay_buffer_kwargs": options}


def _own_arguments(algo: AlgoConfig, n_tasks: int, own: bool, compile: str) -> dict[str, Any]:
    """Return the arguments that one family of algorithms has and others lack."""
    if isinstance(algo, TD3Config):
        noise = {
            name: getattr(algo, name) for name in ("policy_delay", "target_policy_noise", "target_noise_clip")
        }
        return {"action_noise": _action_noise(algo.action_noise), **noise}
    if isinstance(algo, DDPGConfig):
        return {"action_noise": _action_noise(algo.action_noise)}
    if not isinstance(algo, SACConfig):
        return {}
    entropy = {"ent_coef": algo.ent_coef, "target_entropy": algo.target_entropy}
    if not own:
        return entropy
    options = {name: getattr(algo, name) for name in OWN_OPTIONS}
    return {**entropy, **options, "n_tasks": n_tasks, "compile": compile}


def _action_noise(deviation: float) -> NormalActionNoise:
    return NormalActionNoise(np.zeros(ACTION_SIZE), np.full(ACTION_SIZE, deviation))
