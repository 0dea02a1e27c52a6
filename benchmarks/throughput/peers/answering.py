"""What a worker does: it answers each line that it reads with a line of JSON."""

import json
import math
import os
import sys
import time
from pathlib import Path

WARM_UP_STEPS = 3
INFERENCE_SHARE = 0.25  # of the seconds that a form trains


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


def prepare(build, settings):
    """Builds and warms up a form; returns what it took and the function of its rounds.

    Args:
        build: Returns the form: an object with `train(steps)` and `infer(steps)`, both of which return the seconds of
            one step, the mean of so many.
        settings: Dictionary with `batch_size` and `seconds`, how long a round trains at least.
    """
    start = time.perf_counter()
    form = build()
    form.train(1)
    prepare_seconds = time.perf_counter() - start
    form.infer(1)
    steps = math.ceil(settings["seconds"] / form.train(WARM_UP_STEPS))
    passes = math.ceil(INFERENCE_SHARE * settings["seconds"] / form.infer(WARM_UP_STEPS))

    def one_round():
        return {
            "training": settings["batch_size"] / form.train(steps),
            "inference": settings["batch_size"] / form.infer(passes),
            "memory": resident("VmHWM"),
        }

    return {"prepare_seconds": prepare_seconds}, one_round


def resident(field):
    """Returns a field of this process's memory in bytes: `VmRSS`, or `VmHWM` for its peak (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))
