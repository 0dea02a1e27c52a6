import os

import pytest

from kls.study.threads import threads_per_operation


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(1, 1, 1), (2, 1, 2), (2, 2, 1), (4, 1, 4), (16, 3, 5), (4, 8, 1)]
)
def test_cores_are_shared_out(cores, workers, threads, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert threads_per_operation(workers) == threads
