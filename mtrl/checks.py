"""Checks across the keys of a configuration, each with its fix. Torch is imported last, only for what needs it."""

import os
import tempfile
from dataclasses import fields
from pathlib import Path

from mtrl import hardware
from mtrl.config.classes import describe, fits
from mtrl.config.compose import defaults_of
from mtrl.config.types import OPTIONS, OWN_OPTIONS, Config, MultiheadConfig, SACConfig, require
from mtrl.config.values import written
from mtrl.curriculum.stages import stages_of
from mtrl.errors import ConfigurationError
from mtrl.packages import installed
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
GIVEN = ("seed", "device", "train_freq", "gradient_steps", "replay_buffer_class", "replay_buffer_kwargs")
"""Arguments that every algorithm is given, besides those with the names of typed keys."""


def check(cfg: Config, *, on_this_machine: bool = True) -> None:
    """Raise ConfigurationError, in one sentence, if ``cfg`` cannot run.

    With ``on_this_machine``, the devices and the memory of this machine must also suffice.
    """
    _check_environments(cfg)
    _check_updates(cfg)
    _check_curriculum(cfg)
    _check_transfer(cfg)
    _check_records(cfg)
    if cfg.hardware.backend == "native":
        keys = {"backend_key": "hardware.backend", "reward_key": "env.reward"}
        hardware.require_native(cfg.env.tasks, cfg.env.reward, **keys)
    check_algorithm(cfg)
    if on_this_machine:
        _check_machine(cfg)


def _check_environments(cfg: Config) -> None:
    tasks, task, variant, evaluated = cfg.env.tasks, cfg.task, cfg.variant, cfg.evaluation.horizon
    check_tasks(tasks if task is None or task in tasks else [task, *tasks])
    check_seed(cfg.seed)
    problem = f"task={task} names one task and env.tasks of experiment={cfg.experiment} says otherwise"
    fix = "use experiment=mt1 for one task, or task=null env.tasks=[...] for a set of your own"
    require(task is None or tasks == [task], f"{problem}: {fix}")
    problem = f"evaluation.horizon={evaluated} is shorter than the episodes of training, env.horizon="
    fix = f"use evaluation.horizon={HORIZON}, Meta-World's own"
    require(evaluated >= cfg.env.horizon, f"{problem}{cfg.env.horizon}: {fix}")
    if isinstance(variant, MultiheadConfig):
        shared, n_layers = variant.shared_layers, len(variant.critic_layers)
        known = shared == "all" or (isinstance(shared, int) and 0 <= shared <= n_layers)
        require(known, f"variant.shared_layers={shared} must be all or 0 to {n_layers}")
        need = "variant=multihead needs more than one task, for it has a critic per task: use variant=shared"
        require(len(tasks) > 1, need)


def _check_updates(cfg: Config) -> None:
    algo, n_tasks, n_envs = cfg.algo, len(cfg.env.tasks), cfg.n_envs
    batch, buffer = algo.batch_size, algo.buffer_size
    refusal = f"algo.batch_size={batch} is larger than algo.buffer_size={buffer}: make it smaller"
    require(batch <= buffer, refusal)
    refusal = f"algo.buffer_size={buffer} cannot hold one transition of each of the {n_envs} environments"
    require(buffer >= n_envs, f"{refusal}: use at least algo.buffer_size={n_envs}")
    asked = f"hardware.compile={cfg.hardware.compile}"
    problem = f"{asked} is not for algo.cls={algo.cls}, whose update is not compiled"
    known = cfg.hardware.compile in ("auto", "off") or algo.compiles
    require(known, f"{problem}: use hardware.compile=auto")
    problem = f"{asked} needs a CUDA GPU and hardware.device={cfg.hardware.device} is none"
    known = cfg.hardware.compile != "cuda_graph" or cfg.hardware.device not in ("cpu", "mps")
    require(known, f"{problem}: use hardware.compile=auto")
    if not isinstance(algo, SACConfig):
        return
    problem = f"algo.ent_coef={algo.ent_coef} fixes the temperature, and algo.temperature=per_task learns one"
    fix = "use algo.temperature=shared or algo.ent_coef=auto"
    learns = algo.temperature == "shared" or isinstance(algo.ent_coef, str)
    require(learns, f"{problem} for each task: {fix}")
    fix = f"use algo.batch_size={max(1, round(batch / n_tasks)) * n_tasks} or algo.balanced_batches=false"
    refusal = f"algo.batch_size={batch} cannot be divided among {n_tasks} tasks: {fix}"
    require(not algo.balanced_batches or batch % n_tasks == 0, refusal)
    require(
        algo.reward_scaling != "return" or not cfg.env.normalize_reward,
        "env.normalize_reward=true divides rewards by the size of their returns, and so does "
        "algo.reward_scaling=return: use one of them",
    )
    if not algo.compiles:
        off = defaults_of(algo="sac").values["algo"]
        used = [key for key in OWN_OPTIONS if getattr(algo, key) != off[key]]
        given = ", ".join(f"algo.{key}={written(getattr(algo, key))}" for key in used)
        fix = " ".join(f"algo.{key}={written(off[key])}" for key in used)
        refusal = f"only {algo.compiling} has {given}, which algo.cls={algo.cls} would not do: set {fix}"
        require(not used, refusal)


def _check_curriculum(cfg: Config) -> None:
    curriculum = cfg.curriculum
    orders = curriculum.name in ("sequential", "mixed") and not curriculum.stages and not curriculum.tables
    unread = f"curriculum.difficulty={written(curriculum.difficulty)} is for the order of the tasks"
    fix = "choose curriculum=sequential or mixed, without stages of your own"
    require(orders or not curriculum.difficulty, f"{unread}, which nothing here follows: {fix}")
    if curriculum.name == "none" and not curriculum.stages and not curriculum.tables:
        need = "needs a curriculum that hands out the tasks: choose one with curriculum=..., or set"
        copies = curriculum.copies
        require(copies is None, f"curriculum.copies={copies} {need} env.copies_per_task")
        for name in ("start_stage", "thresholds", "steps", "replay"):
            given = f"curriculum.{name}={getattr(curriculum, name)}"
            fix = "choose one with curriculum=..., or give curriculum.stages"
            require(not getattr(curriculum, name), f"{given} needs a curriculum: {fix}")
    stages_of(cfg)


def _check_transfer(cfg: Config) -> None:
    transfer, parts = cfg.transfer, cfg.transfer.parts
    problem = "transfer.baseline=true compares with a run from scratch, and this is one"
    fix = "name what it begins from with transfer.source or transfer.train"
    require(transfer.active or not transfer.baseline, f"{problem}: {fix}")
    if transfer.source_tasks:
        check_tasks(transfer.source_tasks, "transfer.source_tasks")
    if not transfer.active:
        return
    both = "transfer.source and transfer.train both name a source: set one of them to null or []"
    require(transfer.source is None or not transfer.train, both)
    require(bool(parts), "transfer.parts=[] takes nothing from the source: name actor or critic")
    problem = f"transfer.parts={parts} has the optimiser of neither actor nor critic: name one of them, too"
    require("optimiser" not in parts or bool({"actor", "critic"} & set(parts)), problem)
    if transfer.source is not None:
        try:
            source_content(cfg)
        except OSError as error:
            problem = f"transfer.source={transfer.source} cannot be read ({error.strerror})"
            raise ConfigurationError(
                f"{problem}: name a run directory, a checkpoint, or a model.zip"
            ) from error
    frozen = [f"transfer.freeze_steps.{part}" for part, steps in transfer.freeze_steps.items() if steps]
    if cfg.algo.compiles and frozen:
        problem = "cannot be kept by a compiled update, which fixes once for all what it does"
        off = hardware.compilation(cfg.hardware.compile, hardware.device(cfg.hardware)) == "off"
        require(off, f"{frozen[0]} {problem}: use hardware.compile=off")


def check_writable(directory: Path, key: str) -> None:
    """Refuse a directory, which ``key`` names, where it cannot be made or written."""
    try:
        existing = directory.absolute()
        while not existing.exists():
            existing = existing.parent
        for part in directory.absolute().relative_to(existing).parts:
            # Raises where the name is too long.
            (existing / part).exists()
        # Nothing stays behind; the permissions alone do not show a read-only file system.
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        problem = f"{key}={directory} cannot be written ({error.strerror})"
        raise ConfigurationError(f"{problem}: name a directory that can with {key}=...") from error


def _check_records(cfg: Config) -> None:
    """Refuse a directory that cannot be written, and a tracker that is not installed or not logged in to."""
    require(bool(cfg.output), "output is empty: name a directory for run directories with output=...")
    check_writable(Path(cfg.output), "output")
    mode = cfg.logging.wandb
    if mode == "off":
        return
    install = "install it with pip install 'mtrl-metaworld[track]'"
    require(installed("wandb"), f"logging.wandb={mode} needs wandb: {install}")
    # Asking wandb itself would wait for a password in the middle of a job.
    files = (Path(os.environ.get("NETRC", "~/.netrc")).expanduser(), Path("~/_netrc").expanduser())
    known = mode != "online" or "WANDB_API_KEY" in os.environ or any(file.is_file() for file in files)
    fix = "run wandb login first, or use logging.wandb=offline"
    require(known, f"logging.wandb=online finds no login: {fix}")


def check_algorithm(cfg: Config) -> None:
    """Refuse, in one sentence, a class that is not its option's, or does not take what the configuration gives it."""
    algo, options, lost = (
        cfg.algo,
        OPTIONS["algo"],
        "would lose the last observation of an episode: leave it out",
    )
    chosen = next(option for option, kind in options.items() if kind is type(algo))
    typed_keys = [field.name for field in fields(algo) if field.name not in ("cls", "kwargs")]
    for key in algo.kwargs:
        decided_by = f"algo.{key}" if key in typed_keys else _SET_BY.get(key)
        require(decided_by is None, f"algo.kwargs.{key} is decided by {decided_by}: set that instead")
        require(key != "optimize_memory_usage", f"algo.kwargs.optimize_memory_usage {lost}")
    other = f"algo.cls={algo.cls} does not go with algo={chosen}, whose keys are another algorithm's"
    for option, kind in options.items():
        if algo.cls in kind.built_in:
            require(option == chosen, f"{other}: use algo={option}")
            if not algo.kwargs:
                return
    bases, known = describe(algo.cls)
    require(
        "stable_baselines3.common.off_policy_algorithm.OffPolicyAlgorithm" in bases,
        f"algo.cls={algo.cls} does not learn from a replay buffer: "
        "name a subclass of stable-baselines3's OffPolicyAlgorithm",
    )
    # The nearest family counts, for stable-baselines3's DDPG is a subclass of its TD3.
    families = {describe(kind.built_in[-1]).bases[0]: option for option, kind in options.items()}
    found = [families[base] for base in bases if base in families]
    require(found[:1] in ([], [chosen]), f"{other}: use algo={''.join(found[:1])}")
    own = describe("mtrl.algo.SAC").bases[0] in bases
    elsewhere = {"updates", "updates_per", "n_steps", *OWN_OPTIONS, *known}
    lacking = "" if own else ", ".join(name for name in (*typed_keys, *GIVEN) if name not in elsewhere)
    require(
        not lacking,
        f"algo.cls={algo.cls} does not take {lacking}, which algo={chosen} gives it: "
        "choose another algo, or a class that does",
    )
    for key, value in algo.kwargs.items():
        takes = ", ".join(known)
        require(key in known, f"algo.kwargs.{key} is not an argument of {algo.cls}: it takes {takes}")
        require(fits(value, known[key]), f"algo.kwargs.{key}={value} must be of the type {known[key]}")
    needed, name = cfg.variant.own_networks, algo.cls.rpartition(".")[2]
    if needed is not None and not found:
        fix = f"use SAC, TD3 or DDPG, or {needed[1]}"
        raise ConfigurationError(f"algo.cls={algo.cls}: {name} has no {needed[0]}: {fix}")
    # Networks of our own, not the algorithm's.
    require(
        not ((own or needed) and algo.kwargs.get("use_sde")),
        f"algo.kwargs.use_sde={algo.kwargs.get('use_sde')} is not for the networks of {algo.cls} here: leave it "
        "out, or use algo.cls=stable_baselines3.SAC with variant=shared variant.layer_norm=false",
    )


def replay_bytes(cfg: Config) -> int:
    """Return the bytes of the run's replay buffer when it is full."""
    observation = OBSERVATION_SIZE + (len(cfg.env.tasks) if cfg.variant.task_id else 0)
    balanced = isinstance(cfg.algo, SACConfig) and cfg.algo.balanced_batches
    return hardware.replay_bytes(
        cfg.algo.buffer_size, observation, ACTION_SIZE, balanced=balanced, n_steps=cfg.algo.n_steps
    )


def _check_machine(cfg: Config) -> None:
    hardware.require_limits()
    device, buffer = cfg.hardware.device, cfg.algo.buffer_size
    missing, fix = f"hardware.device={device} is not there", "use hardware=auto or cpu"
    if device == "mps":
        require(hardware.mps_available(), f"{missing}: it needs a Mac with Apple's GPU; {fix}")
    if device.startswith("cuda"):
        require(hardware.cuda_available(device), f"{missing}: torch sees no such GPU; {fix}")
    if cfg.hardware.compile == "cuda_graph" and device == "auto":
        none = "hardware.compile=cuda_graph needs a CUDA GPU and torch sees none: use hardware.compile=auto"
        require(hardware.cuda_available("cuda"), none)
    needed, networks = replay_bytes(cfg), hardware.network_bytes(cfg)
    free, where = hardware.replay_memory(device, needed + networks)
    sizes = f"{needed / 2**30:.1f} GiB for its replay buffer, and {free / 2**30:.1f} GiB are free{where}"
    fix = f"use at most algo.buffer_size={int(buffer * free / needed * 0.8)}"
    require(needed <= free, f"algo.buffer_size={buffer} needs {sizes}: {fix}")
    sizes = f"need up to {networks / 2**30:.1f} GiB with batches of {cfg.algo.batch_size}"
    require(
        networks <= free,
        f"variant.actor_layers and variant.critic_layers {sizes}, and {free / 2**30:.1f} GiB are free{where}: "
        "use narrower or fewer layers",
    )
