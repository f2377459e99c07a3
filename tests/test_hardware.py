"""What an update frees is kept for the next one, and what is free is what can still be had."""

import resource
import subprocess
import sys
import time

import pytest

from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run
from mtrl.hardware import compilation, group_memory
from mtrl.rundir.environment import environment

FAULTS = """
import resource

import numpy as np

from mtrl.hardware import keep_freed_memory

for keep in (lambda: None, keep_freed_memory):
    keep()
    # More than the C library keeps by itself.
    np.ones(10_000_000, np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(10_000_000, np.float32)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is told to keep memory")
def test_freed_memory_is_used_again_without_new_pages():
    answer = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    left, kept = map(int, answer.stdout.split())
    assert left > 100 > kept


def test_an_update_is_compiled_on_a_gpu_alone_unless_asked_for():
    chosen = [compilation("auto", device) for device in ("cpu", "cuda", "cuda:1")]
    assert chosen == ["off", "cuda_graph", "cuda_graph"]
    assert compilation("inductor", "cpu") == "inductor"


@pytest.mark.parametrize("script", ["exec sleep 60", "sleep 60", "exit 0", "exit 3", r"printf '\377'", None])
def test_a_git_that_hangs_or_says_nothing_is_unknown(monkeypatch, tmp_path, script):
    if script is not None:
        (tmp_path / "git").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "git").chmod(0o755)
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: run(*args, **options | {"timeout": 1}))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if script else str(tmp_path))
    begun = time.monotonic()
    git = environment()["git"]
    assert git is None or not git["commit"].isascii()
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("limit", "allowed", "said"),
    [
        (resource.RLIMIT_NOFILE, 12, "ulimit -n allows this process 12 open files, and a run needs 64"),
        (resource.RLIMIT_AS, 1_500_000 * 1024, "ulimit -v allows this process 1500000 KiB, and a run needs"),
    ],
)
def test_limits_under_which_nothing_can_be_loaded_are_refused(monkeypatch, limit, allowed, said):
    compose_run([])
    usual = resource.getrlimit
    monkeypatch.setattr(resource, "getrlimit", lambda of: (allowed, allowed) if of == limit else usual(of))
    with pytest.raises(ConfigurationError, match=said):
        compose_run([])


@pytest.mark.parametrize(
    ("membership", "mounted", "free"),
    [
        # The limits of every group above a process count, and files that are only kept until memory is needed.
        ("1:cpu:/elsewhere\n0::/slurm/job_1/step_0\n", ".", [450, 1700, 610]),
        # Another job's, and not those of a mount above.
        ("0::/job_2\n", "slurm", [0, 1700]),
        # A group that is not mounted leaves the root.
        *(
            (membership, ".", [610])
            for membership in ("", "0::/\n", "4:memory:/job\n", "0::/../job\n", "0::/gone\n")
        ),
    ],
)
def test_the_memory_of_control_groups(tmp_path, membership, mounted, free):
    groups = {".": (1000, 990, 600), "slurm": (2000, 300, 0), "slurm/job_2": (10, 10, 0)}
    groups |= {"slurm/job_1": (500, 100, 50), "slurm/job_1/step_0": ("max", 90, 0)}
    for folder, (limit, used, inactive_file) in groups.items():
        group = tmp_path / folder
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{used}\n")
        stat = f"anon 1\nactive_file 7\ninactive_file {inactive_file}\nslab 3\n"
        (group / "memory.stat").write_text(stat)
    assert group_memory(membership, tmp_path / mounted) == free
