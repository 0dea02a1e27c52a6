"""What a worker does: it answers each line that it reads with a line of JSON."""

import json
import math
import os
import sys
from pathlib import Path


def answer(prepare):
    """Answers the lines of standard input until it ends.

    Whatever else is written to standard output meanwhile goes to standard error.

    Args:
        prepare: Called for the first line; returns its answer, and the function that is called for each later one and
            returns theirs. Answers are dictionaries.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    one_round = None
    for _ in sys.stdin:
        if one_round is None:
            found, one_round = prepare()
        else:
            found = one_round()
        print(json.dumps(found), file=answers, flush=True)


def plan_round(seconds, step_seconds, longest):
    """Returns `(steps per pass, passes)` of a round of `seconds` at least, with passes of up to `longest` steps.

    Example:

    >>> plan_round(4.0, 0.1, longest=16)
    (16, 3)
    >>> plan_round(4.0, 1.0, longest=16)
    (4, 1)
    """
    steps = max(1, math.ceil(seconds / step_seconds))
    return min(steps, longest), math.ceil(steps / longest)


def resident(field):
    """Returns a field of this process's memory in bytes: `VmRSS`, or `VmHWM` for its peak (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))
