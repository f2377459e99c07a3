"""What a run uses of the machine: device, threads, compilation. Nothing here changes a hyperparameter."""

import ctypes
import itertools
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mtrl.config.types import Config, HardwareConfig, MultiheadConfig, VariantConfig
from mtrl.errors import ConfigurationError
from mtrl.tasks import ACTION_SIZE, NATIVE, OBSERVATION_SIZE

_WORTH_THREADS = 5e7
"""Multiplications in an update below which threads bring it nothing: three layers of 256 at batch 256 are twice,
two of 128 a third."""
_FITS_ANY_GPU = 2**30
"""Bytes that every GPU which torch still supports has; below, ``auto`` need not ask torch for one."""
GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""One of these files is there where torch may find a GPU: of NVIDIA's driver, under WSL, of AMD's."""


def wait_without_spinning() -> None:
    """Let OpenMP's threads sleep while they wait for each other; to be called before torch is imported.

    They spin otherwise: measured next to other load, an update on two threads then takes 25 times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_freed_memory() -> None:
    """Let the C library keep what an update frees for the next one; does nothing where it is not glibc.

    Tensors of a megabyte and more are otherwise given back to the operating system, and their pages cleared again at
    every update. Larger things, such as replay buffers, still come and go with their pages.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
        mallopt(-3, 64 * 2**20)
        mallopt(-1, 2**30)


def choose(cfg: Config, asked: HardwareConfig) -> HardwareConfig:
    """Return ``asked`` with every ``auto`` and null, except of the environments, resolved for this machine and ``cfg``.

    Sets torch's threads and what memory is kept.
    """
    import torch

    chosen, cores = device(asked), available_cores()
    # The multiplications of passing one batch through actor and both critics.
    actor, critic = (
        sum(a * b for a, b in itertools.pairwise([OBSERVATION_SIZE + ACTION_SIZE, *layers]))
        for layers in (cfg.variant.actor_layers, cfg.variant.critic_layers)
    )
    worth = cfg.algo.batch_size * (actor + 2 * critic) >= _WORTH_THREADS
    # On a GPU the host only launches, and small updates gain nothing by threads.
    torch_threads = asked.torch_threads or (min(cores, 4) if worth and chosen == "cpu" else 1)
    torch.set_num_threads(torch_threads)
    keep_freed_memory()
    resolved = {"device": chosen, "threads": asked.threads or cores, "torch_threads": torch_threads}
    return replace(asked, **resolved, compile=compilation(asked.compile, chosen, compiles=cfg.algo.compiles))


def device(asked: HardwareConfig) -> str:
    """Return the device asked for, or the one that "auto" stands for here."""
    if asked.device != "auto":
        return asked.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def compilation(asked: str, device: str, *, compiles: bool = True) -> str:
    """Return how the update runs on ``device``: what was asked for, or what is measured to be best for auto."""
    # On a processor compilation brings nothing, on a GPU launching the kernels one by one is all the time.
    automatic = "cuda_graph" if compiles and device.startswith("cuda") else "off"
    return automatic if asked == "auto" else asked


def weights(variant: VariantConfig, n_tasks: int) -> tuple[int, int]:
    """Return the least weights that an actor of ``variant`` has, and one of its critics with all heads."""
    split = n_tasks if isinstance(variant, MultiheadConfig) else 1
    shared = getattr(variant, "shared_layers", "all")
    actor, critic = (
        [inputs * outputs for inputs, outputs in itertools.pairwise([OBSERVATION_SIZE, *layers, last])]
        for layers, last in ((variant.actor_layers, ACTION_SIZE), (variant.critic_layers, 1))
    )
    alike = len(critic) - 1 if shared == "all" else int(shared)
    return sum(actor), sum(critic[:alike]) + split * sum(critic[alike:])


def network_bytes(cfg: Config) -> int:
    """Return the bytes of actor and critics with targets, gradients, Adam's two moments and a batch, in float32."""
    actor, critic = weights(cfg.variant, len(cfg.env.tasks))
    units = sum(cfg.variant.actor_layers) + 2 * sum(cfg.variant.critic_layers)
    return 4 * (4 * actor + 2 * 5 * critic + 2 * cfg.algo.batch_size * units)


def available_cores() -> int:
    """Return the cores this process may use, which a cluster may set below the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_native(
    tasks: Sequence[str], reward: str, *, backend_key: str = "backend", reward_key: str = "reward"
) -> None:
    """Raise ConfigurationError, naming these keys, unless the native backend has the tasks with this reward."""
    missing = next((task for task in tasks if task not in NATIVE[reward]), None)
    if missing is not None:
        what = f"the task {missing}" + (f" with {reward_key}={reward}" if reward != "v2" else "")
        raise ConfigurationError(
            f"{backend_key}=native does not have {what}: use {backend_key}=auto, "
            "which takes Meta-World's own environments"
        )


_LIMITS = {
    "-n": (resource.RLIMIT_NOFILE, 1, 64, "open files"),
    "-v": (resource.RLIMIT_AS, 1024, 1_750_000, "KiB"),
}
"""Of each limit of a process: its unit, how many of them torch, MuJoCo and some workers need, and what they are."""


def require_limits() -> None:
    """Raise ConfigurationError where a limit of this process (ulimit) does not even let a run be loaded."""
    for flag, (limit, unit, least, what) in _LIMITS.items():
        allowed = resource.getrlimit(limit)[0]
        if allowed != resource.RLIM_INFINITY and allowed < least * unit:
            raise ConfigurationError(
                f"ulimit {flag} allows this process {allowed // unit} {what}, and a run needs {least}: raise it"
            )


def cuda_available(device: str) -> bool:
    """Return whether torch sees the CUDA device named ("cuda" or "cuda:1")."""
    import torch

    number = device.partition(":")[2] or "0"
    return torch.cuda.is_available() and number.isdecimal() and int(number) < torch.cuda.device_count()


def mps_available() -> bool:
    """Return whether torch can use the GPU of a Mac."""
    if sys.platform != "darwin":
        return False
    import torch

    return torch.backends.mps.is_available()


def replay_bytes(
    buffer_size: int, obs_dim: int, action_dim: int, *, balanced: bool = False, n_steps: int = 1
) -> int:
    """Return the bytes of a full replay buffer, in float32: its ring, and what balance and n-step returns need."""
    # Two observations, the action, the reward, two ends of an episode and the task.
    row = 4 * (2 * obs_dim + action_dim + 4)
    # A queue of transition numbers doubles when it is full.
    return buffer_size * (row + 16 * balanced + 8 * (n_steps > 1))


def replay_memory(device: str, needed: int) -> tuple[int, str]:
    """Return the bytes that are free where a replay buffer of ``needed`` bytes would live, and where that is."""
    # torch is asked only where it may find a GPU, and none is too small for a small buffer.
    if device == "auto" and needed > _FITS_ANY_GPU and any(Path(path).exists() for path in GPU_DRIVERS):
        device = "cuda" if cuda_available("cuda") else "cpu"
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0], f" on {device}"
    return free_memory(), ""


def free_memory() -> int:
    """Return the bytes of memory that can still be had, of the machine or of this process's control groups."""
    membership, kilobytes = Path("/proc/self/cgroup"), _entry(Path("/proc/meminfo"), "MemAvailable:")
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    named = membership.read_text() if membership.is_file() else ""
    groups = group_memory(named, Path("/sys/fs/cgroup"))
    return min([whole if kilobytes is None else kilobytes * 1024, *groups])


def group_memory(membership: str, mounted: Path) -> list[int]:
    """Return the bytes that are free in each control group with a limit, from a process's own to the root.

    Of ``membership``, a ``/proc/<pid>/cgroup``, only groups of version 2 count; ``mounted`` is where the groups are.
    """
    own = next((line.removeprefix("0::") for line in membership.splitlines() if line.startswith("0::")), "/")
    free = []
    group = mounted / own.strip("/")
    for folder in (group, *group.parents[: len(group.parts) - len(mounted.parts)]):
        limit, used = folder / "memory.max", folder / "memory.current"
        if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
            # Files that are only kept until memory is needed count as used.
            reclaimable = _entry(folder / "memory.stat", "inactive_file") or 0
            free.append(int(limit.read_text()) - int(used.read_text()) + reclaimable)
    return free


def _entry(table: Path, name: str) -> int | None:
    """Return the number after ``name`` in a table of the kernel's, or None."""
    lines = table.read_text().splitlines() if table.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), None)
