"""Waits busily on a core of a virtual machine while its host steals time there: `keep_awake.py CORE PARENT` (Linux).

Ends when the process that has started it, PARENT, does. Imports nothing but Python's own, to start at once.
"""

import os
import signal
import sys
import time
from pathlib import Path

WATCH_SECONDS = 0.25
WAIT_SECONDS = 2.0
LEAST_STOLEN = 0.08  # of the time that is watched: two of its 25 ticks


def keep_awake(core, parent):
    """Watches a core and waits busily there whenever time is stolen, until this process has another parent."""
    while os.getppid() == parent:
        before = ticks(core)
        time.sleep(WATCH_SECONDS)
        if stolen_share(before, ticks(core)) >= LEAST_STOLEN:
            wait_busily()


def ticks(core):
    """Returns the ticks of a core so far, by kind, as /proc/stat has them."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next([int(count) for count in line.split()[1:]] for line in lines if line.startswith(f"cpu{core} "))


def stolen_share(before, after):
    """Returns which share of the time between two moments the host has given to others.

    Args:
        before: The ticks of the first moment: user, nice, system, idle, iowait, irq, softirq, steal, and guests' time,
            which is part of user's.
        after: Those of the second.

    Example:

    >>> stolen_share([10, 0, 0, 80, 0, 0, 0, 0, 0, 0], [25, 0, 0, 80, 0, 0, 0, 5, 0, 0])
    0.25
    """
    passed = [later - earlier for earlier, later in zip(before[:8], after[:8], strict=True)]
    return passed[7] / max(1, sum(passed))


def wait_busily():
    """Keeps the core for some seconds."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_awake(*map(int, sys.argv[1:]))
