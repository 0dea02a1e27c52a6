"""How long a study takes from its command to its first training step, and from one trial to the next."""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import pandas as pd

from benchmarks.throughput.machine import machine_note
from benchmarks.throughput.workers import WorkerError
from kls.study.report.tables import Table

SWEEP_GAMMAS = ("1", "0.9", "0.8", "0.7")
PACKAGES = ("keras", "tensorflow", "jax", "numpy")


def measure_startup(options):
    """Starts the gamma study again and again and shows the seconds up to its first training step."""
    frame = run_rounds(("1",), startup, options)
    startup_table(frame).show(options.out / "tables", frame)


def measure_sweep(options):
    """Runs sweeps of gamma and shows the seconds from each trial's last step to the next one's first."""
    frame = run_rounds(SWEEP_GAMMAS, gaps, options)
    sweep_table(frame).show(options.out / "tables", frame)


def run_rounds(gammas, rows_of, options):
    """Returns a frame of the `rows_of` what `run_study` returns of each network in each round, in alternation."""
    return pd.DataFrame(
        {"network": network, "round": number, **row}
        for number in range(1, options.repeats + 1)
        for network in options.networks
        for row in rows_of(*run_study(network, gammas, options))
    )


def run_study(network, gammas, options):
    """Runs the gamma study on digits for one epoch per trial, in a process and directory of its own.

    Args:
        network: Registered name of the network.
        gammas: Gammas, as on the command line.
        options: Parsed command line: `data_dir` and `out`.

    Returns:
        When the command was given, and what `watched_study` writes.

    Raises:
        WorkerError: If the study fails.
    """
    log = options.out / "logs" / f"study-{network}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, log.open("w") as file:
        moments = Path(directory) / "moments.json"
        recipe = ("--gamma", *gammas, "--datasets", "digits", "--model", network, "--epochs", "1")
        places = ("--out", str(Path(directory) / "out"), "--data-dir", str(options.data_dir))
        command = [sys.executable, "-m", "benchmarks.throughput.watched_study", str(moments), *recipe, *places]
        start = time.time()
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
        if code != 0:
            raise WorkerError(f"the gamma study of {network} ended with exit code {code}; see {log}")
        return start, json.loads(moments.read_text())


def startup(start, trainings):
    """Returns one row: the seconds from the command to `fit`, from there to the end of the first step, and of both.

    Example:

    >>> startup(1.0, [{"fit": 6.0, "first": 9.0}])
    [{'until_fit': 5.0, 'first_step': 3.0, 'total': 8.0}]
    """
    fit, first = trainings[0]["fit"], trainings[0]["first"]
    return [{"until_fit": fit - start, "first_step": first - fit, "total": first - start}]


def gaps(start, trainings):
    """Returns a row per trial: the seconds from the last step before it, or the command, to its own first step.

    Example:

    >>> gaps(1.0, [{"first": 9.0, "last": 10.0}, {"first": 11.5, "last": 12.0}])
    [{'trial': 1, 'seconds': 8.0}, {'trial': 2, 'seconds': 1.5}]
    """
    moments = [{"last": start}, *trainings]
    return [
        {"trial": number, "seconds": training["first"] - before["last"]}
        for number, (before, training) in enumerate(itertools.pairwise(moments), start=1)
    ]


def startup_table(frame):
    """Returns the table of a frame of what `startup` returns."""
    phases = ["until_fit", "first_step", "total"]
    rows = [
        (network, *(f"{seconds:.1f}" for seconds in rounds[phases].median()), str(len(rounds)))
        for network, rounds in frame.groupby("network", sort=False)
    ]
    return Table(
        "startup",
        "Seconds from the command to the end of the first training step of `python -m benchmarks.decathlon --gamma 1 "
        "--datasets digits --epochs 1`, float32: medians of n alternated runs.",
        ("network", "until fit", "first step", "total", "n"),
        tuple(rows),
        notes=(machine_note(PACKAGES, keras.backend.backend()),),
    )


def sweep_table(frame):
    """Returns the table of a frame of what `gaps` returns."""
    rows = []
    for network, trials in frame.groupby("network", sort=False):
        first, later = (trials["seconds"][here] for here in (trials["trial"] == 1, trials["trial"] > 1))
        spread = (f"{seconds:.2f}" for seconds in (later.median(), later.max()))
        rows.append((network, f"{first.median():.1f}", str(len(first)), *spread, str(len(later))))
    return Table(
        "sweep",
        f"A sweep of gamma = {', '.join(SWEEP_GAMMAS)} on digits in one command, one epoch each: seconds from the "
        "command to the first trial's first training step, and from a trial's last step to the next one's first, while "
        "the trial before is evaluated and stored.",
        ("network", "first trial, s", "n", "later trials, median s", "largest", "n"),
        tuple(rows),
        notes=(machine_note(PACKAGES, keras.backend.backend()),),
    )
