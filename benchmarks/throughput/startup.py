"""How long a study takes from its command to its first training step, and from one trial to the next."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import pandas as pd

from benchmarks.throughput.workers import WorkerError
from kls.study.machine import machine_note
from kls.study.report.tables import Table

SWEEP_GAMMAS = ("1", "0.9", "0.8", "0.7")
PACKAGES = ("keras", "tensorflow", "jax", "numpy")


def measure_startup(options):
    """Starts the gamma study again and again and shows the seconds up to its first training step."""
    _measure(("1",), startup_table, options)


def measure_sweep(options):
    """Runs sweeps of gamma and shows the seconds from each trial's last step to the next one's first."""
    _measure(SWEEP_GAMMAS, sweep_table, options)


def _measure(gammas, table, options):
    """Runs the study of each network in each round, in alternation, and shows a table of the `phases`."""
    frame = pd.DataFrame(
        {"network": network, "round": number, **row}
        for number in range(1, options.repeats + 1)
        for network in options.networks
        for row in phases(*run_study(network, gammas, options))
    )
    table(frame).show(options.out / "tables", frame)


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


def phases(start, trainings):
    """Returns a row per trial, of seconds.

    They are those from the last step before it, or the command, to `fit`, from there to the end of its own first step,
    and both together.

    Example:

    >>> phases(1.0, [{"fit": 6.0, "first": 9.0, "last": 10.0}])
    [{'trial': 1, 'until_fit': 5.0, 'first_step': 3.0, 'total': 8.0}]
    """
    rows = []
    for number, training in enumerate(trainings, start=1):
        fit, first = training["fit"], training["first"]
        rows.append({"trial": number, "until_fit": fit - start, "first_step": first - fit, "total": first - start})
        start = training["last"]
    return rows


def startup_table(frame):
    """Returns the table of a frame of studies of one trial."""
    rows = [
        (network, *(f"{seconds:.1f}" for seconds in trials.median()), str(len(trials)))
        for network, trials in frame.groupby("network", sort=False)[["until_fit", "first_step", "total"]]
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
    """Returns the table of a frame of sweeps."""
    rows = []
    for network, trials in frame.groupby("network", sort=False):
        first, later = (trials["total"][here] for here in (trials["trial"] == 1, trials["trial"] > 1))
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
