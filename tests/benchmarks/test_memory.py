import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from benchmarks.runner.memory import keep_freed_memory

def step():
    return [np.ones(3 * 2**18, np.float32) for _ in range(4)]

if sys.argv[1] == "keep":
    keep_freed_memory()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode):
    run = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True)
    return int(run.stdout)


def test_freed_memory_is_used_again_without_a_page_fault():
    """Ten steps of 12 MiB are 30,720 pages of 4 KiB."""
    before = faults("leave")
    if before < 1000:
        pytest.skip(f"this allocator keeps memory by itself: {before} page faults")
    assert faults("keep") < before / 100


def test_another_allocator_is_left_alone(monkeypatch):
    from benchmarks.runner import memory

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.keep_freed_memory()
