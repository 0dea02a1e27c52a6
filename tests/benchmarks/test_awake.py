import itertools
import os
import signal
import subprocess
from pathlib import Path

import pytest

from benchmarks.runner import awake, keep_awake
from benchmarks.runner.awake import cores_awake, cores_to_keep

linux_only = pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="idle priority is Linux's")


@linux_only
def test_each_core_has_a_process_of_idle_priority_that_ends_with_the_block(monkeypatch):
    cores = sorted(os.sched_getaffinity(0))
    monkeypatch.setattr(awake, "cores_to_keep", lambda: cores)
    with cores_awake() as keepers:
        assert [keeper.poll() for keeper in keepers] == [None] * len(cores)
        assert {os.sched_getscheduler(keeper.pid) for keeper in keepers} == {os.SCHED_IDLE}
        assert [os.sched_getaffinity(keeper.pid) for keeper in keepers] == [{core} for core in cores]
        assert {os.getsid(keeper.pid) for keeper in keepers} == {os.getsid(0)}
    assert [keeper.returncode for keeper in keepers] == [-signal.SIGKILL] * len(cores)


@linux_only
def test_they_end_when_the_block_fails(monkeypatch):
    monkeypatch.setattr(awake, "cores_to_keep", lambda: [min(os.sched_getaffinity(0))])
    with pytest.raises(ZeroDivisionError), cores_awake() as keepers:
        raise ZeroDivisionError
    assert keepers[0].returncode == -signal.SIGKILL


@linux_only
def test_what_a_sandbox_forbids_is_left_out(monkeypatch):
    started = []

    class Noted(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    def forbid(*arguments):
        raise PermissionError

    monkeypatch.setattr(awake, "cores_to_keep", lambda: sorted(os.sched_getaffinity(0)))
    monkeypatch.setattr(os, "sched_setscheduler", forbid)
    monkeypatch.setattr(subprocess, "Popen", Noted)
    with cores_awake() as keepers:
        assert keepers == []
        assert [process.returncode for process in started] == [-signal.SIGKILL]


@pytest.mark.parametrize(
    ("flags", "limits", "cores", "kept"),
    [
        ("fpu hypervisor", {"cpu.max": "max 100000"}, {0, 3}, [0, 3]),
        ("fpu hypervisor", {"cpu/cpu.cfs_quota_us": "-1"}, {1}, [1]),
        ("fpu hypervisor", {}, {1}, [1]),
        ("fpu", {}, {0, 3}, []),
        ("fpu hypervisor", {"cpu.max": "150000 100000"}, {0, 3}, []),
        ("fpu hypervisor", {"job/cpu.max": "150000 100000"}, {0, 3}, []),
        ("fpu hypervisor", {"job/step/cpu.max": "150000 100000", "job/cpu.max": "max 100000"}, {0, 3}, []),
        ("fpu hypervisor", {"job/step/cpu.max": "max 100000", "other/cpu.max": "150000 100000"}, {0, 3}, [0, 3]),
        ("fpu hypervisor", {"cpu/cpu.cfs_quota_us": "150000"}, {0, 3}, []),
        ("fpu hypervisor", {"cpu/docker/cpu.cfs_quota_us": "150000"}, {0, 3}, []),
        ("fpu hypervisor", {}, set(range(9)), []),
    ],
)
def test_cores_are_kept_on_small_virtual_machines_without_a_limit(flags, limits, cores, kept, monkeypatch):
    files = {
        "/proc/cpuinfo": f"flags\t\t: {flags} lm\n",
        "/proc/self/cgroup": "12:cpuset:/other\n4:cpu,cpuacct:/docker\n0::/job/step\n",
    }
    files |= {f"/sys/fs/cgroup/{name}": text for name, text in limits.items()}
    monkeypatch.setattr(Path, "is_file", lambda path: str(path) in files)
    monkeypatch.setattr(Path, "read_text", lambda path: files[str(path)])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores, raising=False)
    assert cores_to_keep() == kept


def test_a_core_is_kept_whenever_time_is_stolen_until_the_parent_is_gone(monkeypatch):
    parents = iter([7, 7, 7, 1])  # before each watch
    stolen = [[0, 10], [20, 22], [30, 31]]  # ticks before and after three watches of 25
    moments = (
        [25 * watch + at - ticks, 0, 0, 0, 0, 0, 0, ticks, 0, 0]
        for watch, pair in enumerate(stolen)
        for at, ticks in zip((0, 25), pair, strict=True)
    )
    waits = itertools.count()
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(keep_awake, "ticks", lambda core: next(moments))
    monkeypatch.setattr(keep_awake.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(keep_awake, "wait_busily", lambda: next(waits))
    keep_awake.keep_awake(0, parent=7)
    assert next(waits) == 2  # 10 and 2 ticks of 25, not 1
    assert next(parents, None) is None


def test_a_core_is_left_alone_where_the_parent_was_gone_before(monkeypatch):
    monkeypatch.setattr(os, "getppid", lambda: 1)
    monkeypatch.delattr(keep_awake, "ticks")
    keep_awake.keep_awake(0, parent=7)


def test_ticks_are_those_of_the_core(monkeypatch):
    text = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu1 1 2 3 4 5 6 7 8 0 0\ncpu10 5 5 5 5 5 5 5 5 5 5\nintr 3\n"
    monkeypatch.setattr(Path, "read_text", lambda path: text)
    assert keep_awake.ticks(1) == [1, 2, 3, 4, 5, 6, 7, 8, 0, 0]
    assert keep_awake.ticks(10) == [5] * 10


def test_stolen_time_is_a_share_of_all():
    before = [100, 0, 50, 300, 0, 0, 0, 20, 7, 0]
    assert keep_awake.stolen_share(before, [110, 0, 55, 305, 0, 0, 0, 25, 9, 0]) == pytest.approx(0.2)
    assert keep_awake.stolen_share(before, before) == 0
