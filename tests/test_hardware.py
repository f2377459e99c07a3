"""What an update frees is kept for the next one, and what is free is what can still be had."""

import subprocess
import sys

import pytest

from mtrl.hardware import compilation, group_memory

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
    assert [compilation("auto", device) for device in ("cpu", "cuda", "cuda:1")] == [
        "off",
        *["cuda_graph"] * 2,
    ]
    assert compilation("inductor", "cpu") == "inductor"


def write_group(folder, limit, used, *, inactive_file=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\nactive_file 7\ninactive_file {inactive_file}\nslab 3\n")


def test_files_that_are_only_kept_until_memory_is_needed_count_as_free(tmp_path):
    write_group(tmp_path, 1000, 990, inactive_file=600)
    assert group_memory("0::/\n", tmp_path) == [610]


def test_the_limits_of_every_group_above_a_process_count(tmp_path):
    write_group(tmp_path / "slurm" / "job_1" / "step_0", "max", 90)
    write_group(tmp_path / "slurm" / "job_1", 500, 100, inactive_file=50)
    write_group(tmp_path / "slurm", 2000, 300)
    # Another job's, and one of a mount above.
    write_group(tmp_path / "slurm" / "job_2", 10, 10)
    assert group_memory("1:cpu:/elsewhere\n0::/slurm/job_1/step_0\n", tmp_path) == [450, 1700]
    assert group_memory("0::/slurm/job_2\n", tmp_path / "slurm") == [1700]


@pytest.mark.parametrize("membership", ["", "4:memory:/job\n", "0::/../job\n", "0::/gone\n"])
def test_a_group_that_is_not_mounted_leaves_the_root(tmp_path, membership):
    write_group(tmp_path / "mounted", 1000, 400)
    assert group_memory(membership, tmp_path / "mounted") == [600]
