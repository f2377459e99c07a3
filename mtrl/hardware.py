"""What a run uses of the machine: device, threads, compilation. Nothing here changes a hyperparameter."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtrl.config import HardwareConfig


@dataclass(frozen=True, slots=True)
class Hardware:
    """The choices made for one run, recorded in its status."""

    device: str
    backend: str
    workers: int | None
    threads: int
    torch_threads: int
    compile: str

    def as_dict(self) -> dict[str, Any]:
        """Return the choices as plain values."""
        return asdict(self)


def choose(cfg: HardwareConfig, backend: str) -> Hardware:
    """Resolve every ``auto`` and null of ``cfg`` for this machine and apply torch's thread count.

    Args:
        cfg: What was asked for.
        backend: The environment backend that serves the run's tasks, "native" or "stock".
    """
    import torch

    device = cfg.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    cores = available_cores()
    torch_threads = cfg.torch_threads or _torch_threads(device, cores)
    torch.set_num_threads(torch_threads)
    # Measured: on a processor compilation brings nothing, on a GPU launching the kernels one by one is all the time.
    automatic = "cuda_graph" if device.startswith("cuda") else "off"
    compiled = automatic if cfg.compile == "auto" else cfg.compile
    return Hardware(device, backend, cfg.workers, cfg.threads or cores, torch_threads, compiled)


def _torch_threads(device: str, cores: int) -> int:
    """Return the threads of torch: half the cores up to four.

    Matrix products of these sizes gain little from more, on a GPU the host only launches, and OpenMP's threads wait
    for each other by spinning: one core short, two of them are ten times slower than one.
    """
    return 1 if device != "cpu" else max(1, min(cores // 2, 4))


def available_cores() -> int:
    """Return the cores this process may use, which a cluster may set below the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cuda_available(device: str) -> bool:
    """Tell whether torch sees the CUDA device named ("cuda" or "cuda:1")."""
    import torch

    index = int(device.split(":")[1]) if ":" in device else 0
    return torch.cuda.is_available() and index < torch.cuda.device_count()


def free_memory() -> int:
    """Return the bytes of memory that can still be had, of the machine or of this process's control group."""
    limits = [_machine_memory()]
    group = Path("/sys/fs/cgroup")
    limit, used = group / "memory.max", group / "memory.current"
    if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
        limits.append(int(limit.read_text()) - int(used.read_text()))
    return min(limits)


def _machine_memory() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
