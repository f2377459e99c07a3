"""The class that ``algo.cls`` names: whether it is what its option is for, and takes what it would be given."""

import importlib
import inspect
from dataclasses import fields
from typing import Any

from mtrl.config import OPTIONS, OWN_SAC, AlgoConfig, Config, ConfigurationError

_BUILT_IN = {
    OWN_SAC: "sac",
    "stable_baselines3.SAC": "sac",
    "stable_baselines3.TD3": "td3",
    "stable_baselines3.DDPG": "ddpg",
}
"""The option for each class that is known without importing it."""

_SET_BY = {
    "policy": "variant",
    "policy_kwargs": "variant.actor_layers, variant.critic_layers and variant.layer_norm",
    "env": "env.tasks",
    "n_tasks": "env.tasks",
    "train_freq": "algo.updates and algo.updates_per",
    "gradient_steps": "algo.updates and algo.updates_per",
    "replay_buffer_class": "algo.buffer_size and algo.n_steps",
    "replay_buffer_kwargs": "algo.buffer_size and algo.n_steps",
    "action_noise": "algo.action_noise of algo=td3 and algo=ddpg",
    "seed": "seed",
    "device": "hardware.device",
    "compile": "hardware.compile",
}
"""The typed keys behind an argument that has another name than its key in ``algo``."""


def load_class(path: str) -> type:
    """Return the class at a dotted path.

    Raises:
        ConfigurationError: There is none.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"algo.cls={path} does not exist ({error}): name a class such as stable_baselines3.SAC"
        ) from error
    if not isinstance(found, type):
        raise ConfigurationError(f"algo.cls={path} is not a class: name one such as stable_baselines3.SAC")
    return found


def check_algorithm(cfg: Config) -> None:
    """Refuse a class that is not its option's, or does not take what the configuration gives it.

    Raises:
        ConfigurationError: In one sentence. Torch is imported only for what the names alone do not tell.
    """
    algo = cfg.algo
    for key in algo.kwargs:
        _check_free(algo, key)
    if algo.cls in _BUILT_IN:
        _check_option(algo, _BUILT_IN[algo.cls])
        if not algo.kwargs:
            return
    cls = load_class(algo.cls)
    from stable_baselines3 import DDPG, SAC, TD3
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    from mtrl.agent import arguments_of, policy_of

    if not issubclass(cls, OffPolicyAlgorithm):
        raise ConfigurationError(
            f"algo.cls={algo.cls} does not learn from a replay buffer: "
            "name a subclass of stable-baselines3's OffPolicyAlgorithm"
        )
    # DDPG is one of TD3's.
    for family, option in ((DDPG, "ddpg"), (TD3, "td3"), (SAC, "sac")):
        if issubclass(cls, family):
            _check_option(algo, option)
            break
    _check_arguments(algo, cls, arguments_of(cfg, cfg.n_envs, "cpu", "off"))
    try:
        policy, _ = policy_of(cfg)
    except ValueError as error:
        raise ConfigurationError(f"algo.cls={algo.cls}: {error}") from error
    # A policy of our own, not the algorithm's, has stacked networks.
    if isinstance(policy, type) and algo.kwargs.get("use_sde"):
        raise ConfigurationError(
            f"algo.kwargs.use_sde={algo.kwargs['use_sde']} is not for the networks of {algo.cls} here: leave it "
            "out, or use algo.cls=stable_baselines3.SAC with variant=shared variant.layer_norm=false"
        )


def option_of(algo: AlgoConfig) -> str:
    """Return the option of ``algo`` that has this type of keys."""
    return next(option for option, kind in OPTIONS["algo"].items() if kind is type(algo))


def _check_option(algo: AlgoConfig, option: str) -> None:
    if option != option_of(algo):
        raise ConfigurationError(
            f"algo.cls={algo.cls} does not go with algo={option_of(algo)}, whose keys are another algorithm's: "
            f"use algo={option}"
        )


def _check_free(algo: AlgoConfig, key: str) -> None:
    """Refuse an argument that a typed key decides, or that the replay buffer does not do."""
    own = {field.name for field in fields(algo)} - {"cls", "kwargs"}
    typed = f"algo.{key}" if key in own else _SET_BY.get(key)
    if typed:
        raise ConfigurationError(f"algo.kwargs.{key} is decided by {typed}: set that instead")
    if key == "optimize_memory_usage":
        raise ConfigurationError(
            "algo.kwargs.optimize_memory_usage would lose the last observation of an episode: leave it out"
        )


def _check_arguments(algo: AlgoConfig, cls: type, typed: dict[str, Any]) -> None:
    known = _arguments(cls)
    lacking = [name for name in typed if name not in known]
    if lacking:
        raise ConfigurationError(
            f"algo.cls={algo.cls} does not take {', '.join(lacking)}, which algo={option_of(algo)} gives it: "
            "choose another algo, or a class that does"
        )
    for key in algo.kwargs:
        if key not in known:
            raise ConfigurationError(
                f"algo.kwargs.{key} is not an argument of {algo.cls}: it takes {', '.join(known)}"
            )


def _arguments(cls: type) -> list[str]:
    """Return the names of the constructor's arguments; its bases' too where it passes ``**kwargs`` on."""
    names: list[str] = []
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        names += [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return sorted({name for name in names if name != "self" and not name.startswith("_")})
