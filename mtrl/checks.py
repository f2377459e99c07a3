"""Checks across the keys of a configuration, each with its fix. Torch is imported last, only for what needs it."""

import inspect
import os
import tempfile
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mtrl import hardware
from mtrl.config.compose import defaults_of
from mtrl.config.types import (
    OPTIONS,
    OWN_OPTIONS,
    AlgoConfig,
    Config,
    MultiheadConfig,
    SACConfig,
    load_class,
    require,
)
from mtrl.config.values import written
from mtrl.curriculum.stages import stages_of
from mtrl.errors import ConfigurationError
from mtrl.rundir.models import source_content
from mtrl.tasks import ACTION_SIZE, HORIZON, OBSERVATION_SIZE, check_seed, check_tasks

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


def check(cfg: Config, *, on_this_machine: bool = True) -> None:
    """Raise ConfigurationError, in one sentence, if ``cfg`` cannot run.

    With ``on_this_machine``, the devices and the memory of this machine must also suffice.
    """
    _check_tasks(cfg)
    require(
        cfg.evaluation.horizon >= cfg.env.horizon,
        f"evaluation.horizon={cfg.evaluation.horizon} is shorter than the episodes of training, "
        f"env.horizon={cfg.env.horizon}: use evaluation.horizon={HORIZON}, Meta-World's own",
    )
    _check_batches(cfg)
    _check_own_options(cfg.algo)
    _check_compilation(cfg)
    scaling = cfg.algo.reward_scaling if isinstance(cfg.algo, SACConfig) else "none"
    require(
        scaling != "return" or not cfg.env.normalize_reward,
        "env.normalize_reward=true divides rewards by the size of their returns, and so does "
        "algo.reward_scaling=return: use one of them",
    )
    require(
        not isinstance(cfg.variant, MultiheadConfig) or len(cfg.env.tasks) > 1,
        "variant=multihead needs more than one task, for it has a critic per task: use variant=shared",
    )
    stages_of(cfg)
    _check_transfer(cfg)
    _check_output(Path(cfg.output))
    _check_tracker(cfg.logging.wandb)
    if cfg.hardware.backend == "native":
        keys = {"backend_key": "hardware.backend", "reward_key": "env.reward"}
        hardware.require_native(cfg.env.tasks, cfg.env.reward, **keys)
    check_algorithm(cfg)
    if on_this_machine:
        _check_device(cfg)
        _check_memory(cfg)


def _check_tasks(cfg: Config) -> None:
    tasks, task = cfg.env.tasks, cfg.task
    check_tasks(tasks if task is None or task in tasks else [task, *tasks])
    check_seed(cfg.seed)
    require(
        task is None or tasks == [task],
        f"task={task} names one task and env.tasks of experiment={cfg.experiment} says otherwise: "
        "use experiment=mt1 for one task, or task=null env.tasks=[...] for a set of your own",
    )


def _check_batches(cfg: Config) -> None:
    algo, n_tasks = cfg.algo, len(cfg.env.tasks)
    batch, buffer = algo.batch_size, algo.buffer_size
    fitting = max(1, round(batch / n_tasks)) * n_tasks
    require(
        not (isinstance(algo, SACConfig) and algo.balanced_batches and batch % n_tasks),
        f"algo.batch_size={batch} cannot be divided among {n_tasks} tasks: use algo.batch_size={fitting} or "
        "algo.balanced_batches=false",
    )
    require(
        batch <= buffer,
        f"algo.batch_size={batch} is larger than algo.buffer_size={buffer}: make it smaller",
    )
    require(
        buffer >= cfg.n_envs,
        f"algo.buffer_size={buffer} cannot hold one transition of each of the {cfg.n_envs} environments: "
        f"use at least algo.buffer_size={cfg.n_envs}",
    )


def _check_own_options(algo: AlgoConfig) -> None:
    if not isinstance(algo, SACConfig) or algo.compiles:
        return
    off = defaults_of(algo="sac").values["algo"]
    used = [key for key in OWN_OPTIONS if getattr(algo, key) != off[key]]
    given = ", ".join(f"algo.{key}={written(getattr(algo, key))}" for key in used)
    fix = " ".join(f"algo.{key}={written(off[key])}" for key in used)
    require(not used, f"only {algo.compiling} has {given}, which algo.cls={algo.cls} would not do: set {fix}")


def _check_compilation(cfg: Config) -> None:
    asked = cfg.hardware
    require(
        asked.compile in ("auto", "off") or cfg.algo.compiles,
        f"hardware.compile={asked.compile} is not for algo.cls={cfg.algo.cls}, whose update is not compiled: "
        "use hardware.compile=auto",
    )
    require(
        asked.compile != "cuda_graph" or asked.device not in ("cpu", "mps"),
        f"hardware.compile=cuda_graph needs a CUDA GPU and hardware.device={asked.device} is none: "
        "use hardware.compile=auto",
    )


def _check_transfer(cfg: Config) -> None:
    transfer = cfg.transfer
    if transfer.source_tasks:
        check_tasks(transfer.source_tasks, "transfer.source_tasks")
    if transfer.source is not None:
        source_content(cfg)
    frozen = [f"transfer.freeze_steps.{part}" for part, steps in transfer.freeze_steps.items() if steps]
    if cfg.algo.compiles and frozen and transfer.active:
        compilation = hardware.compilation(cfg.hardware.compile, hardware.device(cfg.hardware))
        require(
            compilation == "off",
            f"{frozen[0]} cannot be kept by a compiled update, which fixes once for all what it does: "
            "use hardware.compile=off",
        )


def _check_output(output: Path) -> None:
    existing = output.absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        # Nothing stays behind; the permissions alone do not show a read-only file system.
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise ConfigurationError(
            f"output={output} cannot be written ({error.strerror}): name a directory that can with output=..."
        ) from error


def _check_tracker(mode: str) -> None:
    if mode == "off":
        return
    require(
        find_spec("wandb") is not None,
        f"logging.wandb={mode} needs wandb: install it with pip install 'mtrl-metaworld[track]'",
    )
    # Asking wandb itself would wait for a password in the middle of a job.
    files = (Path(os.environ.get("NETRC", "~/.netrc")).expanduser(), Path("~/_netrc").expanduser())
    require(
        mode != "online" or "WANDB_API_KEY" in os.environ or any(file.is_file() for file in files),
        "logging.wandb=online finds no login: run wandb login first, or use logging.wandb=offline",
    )


def check_algorithm(cfg: Config) -> None:
    """Refuse a class that is not its option's, or does not take what the configuration gives it.

    Raises:
        ConfigurationError: In one sentence. Torch is imported only where the names alone do not suffice.
    """
    algo = cfg.algo
    for key in algo.kwargs:
        _check_free(algo, key)
    for option, kind in OPTIONS["algo"].items():
        if algo.cls in kind.built_in:
            _check_option(algo, option)
            if not algo.kwargs:
                return
    cls = load_class(algo.cls)
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    from mtrl.algo.make import arguments_of
    from mtrl.algo.policies import policy_for

    require(
        issubclass(cls, OffPolicyAlgorithm),
        f"algo.cls={algo.cls} does not learn from a replay buffer: "
        "name a subclass of stable-baselines3's OffPolicyAlgorithm",
    )
    # The nearest family counts, for stable-baselines3's DDPG is a subclass of its TD3.
    families = {load_class(kind.built_in[-1]): option for option, kind in OPTIONS["algo"].items()}
    option = next((families[base] for base in cls.__mro__ if base in families), None)
    if option:
        _check_option(algo, option)
    _check_arguments(algo, cls, arguments_of(cfg, cfg.n_envs, "cpu", "off"))
    try:
        policy, _ = policy_for(cls, cfg.variant, len(cfg.env.tasks))
    except ValueError as error:
        raise ConfigurationError(f"algo.cls={algo.cls}: {error}") from error
    # A policy of our own, not the algorithm's, has stacked networks.
    require(
        not (isinstance(policy, type) and algo.kwargs.get("use_sde")),
        f"algo.kwargs.use_sde={algo.kwargs.get('use_sde')} is not for the networks of {algo.cls} here: leave it "
        "out, or use algo.cls=stable_baselines3.SAC with variant=shared variant.layer_norm=false",
    )


def _check_free(algo: AlgoConfig, key: str) -> None:
    """Refuse an argument that a typed key decides, or that the replay buffer does not do."""
    own = {field.name for field in fields(algo)} - {"cls", "kwargs"}
    typed = f"algo.{key}" if key in own else _SET_BY.get(key)
    require(typed is None, f"algo.kwargs.{key} is decided by {typed}: set that instead")
    require(
        key != "optimize_memory_usage",
        "algo.kwargs.optimize_memory_usage would lose the last observation of an episode: leave it out",
    )


def _option_of(algo: AlgoConfig) -> str:
    return next(option for option, kind in OPTIONS["algo"].items() if kind is type(algo))


def _check_option(algo: AlgoConfig, option: str) -> None:
    chosen = _option_of(algo)
    require(
        option == chosen,
        f"algo.cls={algo.cls} does not go with algo={chosen}, whose keys are another algorithm's: "
        f"use algo={option}",
    )


def _check_arguments(algo: AlgoConfig, cls: type, typed: dict[str, Any]) -> None:
    known = _arguments(cls)
    lacking = [name for name in typed if name not in known]
    require(
        not lacking,
        f"algo.cls={algo.cls} does not take {', '.join(lacking)}, which algo={_option_of(algo)} gives it: "
        "choose another algo, or a class that does",
    )
    for key in algo.kwargs:
        takes = ", ".join(known)
        require(key in known, f"algo.kwargs.{key} is not an argument of {algo.cls}: it takes {takes}")


def _arguments(cls: type) -> list[str]:
    """Return the names of the constructor's arguments; its bases' too where it passes ``**kwargs`` on."""
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return sorted(name for name in names if name != "self" and not name.startswith("_"))


def _check_device(cfg: Config) -> None:
    asked = cfg.hardware
    missing = f"hardware.device={asked.device} is not there"
    if asked.device == "mps" and not hardware.mps_available():
        raise ConfigurationError(f"{missing}: it needs a Mac with Apple's GPU; use hardware=auto or cpu")
    if asked.device.startswith("cuda") and not hardware.cuda_available(asked.device):
        raise ConfigurationError(f"{missing}: torch sees no such GPU; use hardware=auto or cpu")
    if asked.compile == "cuda_graph" and asked.device == "auto" and not hardware.cuda_available("cuda"):
        raise ConfigurationError(
            "hardware.compile=cuda_graph needs a CUDA GPU and torch sees none: use hardware.compile=auto"
        )


def replay_bytes(cfg: Config) -> int:
    """Return the bytes of the run's replay buffer when it is full."""
    observation = OBSERVATION_SIZE + (len(cfg.env.tasks) if cfg.variant.task_id else 0)
    balanced = isinstance(cfg.algo, SACConfig) and cfg.algo.balanced_batches
    return hardware.replay_bytes(
        cfg.algo.buffer_size, observation, ACTION_SIZE, balanced=balanced, n_steps=cfg.algo.n_steps
    )


def _check_memory(cfg: Config) -> None:
    needed = replay_bytes(cfg)
    free, where = hardware.replay_memory(cfg.hardware.device, needed)
    fitting = int(cfg.algo.buffer_size * free / needed * 0.8)
    require(
        needed <= free,
        f"algo.buffer_size={cfg.algo.buffer_size} needs {needed / 2**30:.1f} GiB for its replay buffer, "
        f"and {free / 2**30:.1f} GiB are free{where}: use at most algo.buffer_size={fitting}",
    )
