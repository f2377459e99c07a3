"""What an update frees is kept for the next one."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys

import numpy as np

from mtrl.hardware import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


# More than the C library keeps by itself.
np.ones(10_000_000, np.float32)
before = faults()
for _ in range(10):
    np.ones(10_000_000, np.float32)
print(faults() - before)
"""


def faults(word: str) -> int:
    answer = subprocess.run([sys.executable, "-c", FAULTS, word], capture_output=True, text=True, check=True)
    return int(answer.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is told to keep memory")
def test_freed_memory_is_used_again_without_new_pages():
    assert faults("kept") < 100
    assert faults("left") > 100
