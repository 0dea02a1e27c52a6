"""The cores of a virtual machine, kept while its host would give them to others.

TensorFlow's threads sleep between operations, which take a millisecond or so. A core whose threads all sleep is the
host's; where others want it, it comes back late, and a training step takes up to three times as long. While time is
stolen so, a process of idle priority waits busily on each core: the machine stays awake, and whatever else runs in it
goes first.
"""

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.runner import keep_awake

MOST_CORES = 8  # more are seldom all in use by a small network
CONTROL_GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def cores_awake():
    """Keeps the cores of this process awake within; yields the processes that do it, none where there is no need."""
    keepers = []
    try:
        with suppress(OSError):  # a sandbox may forbid it
            for core in cores_to_keep():
                keepers.append(_keeper(core))
        yield keepers
    finally:
        for keeper in keepers:
            keeper.kill()
            keeper.wait()


def cores_to_keep():
    """Returns the numbers of this process's cores if they are a host's to take away (Linux).

    None are on metal, under a limit of processor time, which waiting would use up, nor where there are many.
    """
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file() or " hypervisor" not in cpuinfo.read_text() or _is_limited():
        return []
    cores = sorted(os.sched_getaffinity(0))
    return cores if len(cores) <= MOST_CORES else []


def _is_limited():
    """Whether this process may use a part of its cores' time alone."""
    return any(path.is_file() and not path.read_text().startswith(none) for path, none in _limits())


def _limits():
    """Yields the files of this process's control groups that may limit it, and how no limit begins there."""
    own = Path("/proc/self/cgroup")
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2
            folder, name, none = CONTROL_GROUPS, "cpu.max", "max"
        elif "cpu" in controllers.split(","):
            folder, name, none = CONTROL_GROUPS / "cpu", "cpu.cfs_quota_us", "-1"
        else:
            continue
        group = folder / group.removeprefix("/")
        yield from ((each / name, none) for each in (group, *group.parents) if each.is_relative_to(folder))


def _keeper(core):
    """Starts `keep_awake` at idle priority on a core.

    It stays in this process's session: Linux weighs idle priority within a session alone.
    """
    command = [sys.executable, "-I", "-S", keep_awake.__file__, str(core), str(os.getpid())]
    keeper = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        os.sched_setscheduler(keeper.pid, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setaffinity(keeper.pid, {core})
    except OSError:
        keeper.kill()
        keeper.wait()
        raise
    return keeper
