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

from benchmarks.runner.tables import Table
from benchmarks.throughput.machine import machine_note
from benchmarks.throughput.race import RaceError

SWEEP_GAMMAS = ("1", "0.9", "0.8", "0.7")
PACKAGES = ("keras", "tensorflow", "jax", "numpy")
PHASES = ("import", "prepare", "first_step", "total")


def measure_startup(options):
    """Starts the gamma study again and again and shows the seconds up to its first training step.

    Args:
        options: Parsed command line.

    Raises:
        RaceError: If the study fails.
    """
    rows = []
    for number in range(1, options.repeats + 1):
        for network in options.networks:
            watched = run_study(network, ("1",), options)
            rows.append({"network": network, "round": number, **phases(watched)})
    frame = pd.DataFrame(rows)
    startup_table(frame).show(options.out / "tables", frame)


def measure_sweep(options):
    """Runs sweeps of gamma and shows the seconds from each trial's last step to the next one's first.

    Args:
        options: Parsed command line.

    Raises:
        RaceError: If the study fails.
    """
    rows = []
    for number in range(1, options.repeats + 1):
        for network in options.networks:
            watched = run_study(network, SWEEP_GAMMAS, options)
            rows += [{"network": network, "round": number, **gap} for gap in gaps(watched)]
    frame = pd.DataFrame(rows)
    sweep_table(frame).show(options.out / "tables", frame)


def run_study(network, gammas, options):
    """Runs the gamma study on digits for one epoch per trial, in a process and directory of its own.

    Args:
        network: Registered name of the network.
        gammas: Gammas, as on the command line.
        options: Parsed command line: `data_dir` and `out`.

    Returns:
        What `watched_study` writes, and `start`: when the command was given.

    Raises:
        RaceError: If the study fails.
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
            raise RaceError(f"the gamma study of {network} ended with exit code {code}; see {log}")
        return {"start": start, **json.loads(moments.read_text())}


def phases(watched):
    """Returns the seconds of imports, of what comes before `fit`, from there to the end of the first step, and of all.

    Args:
        watched: As `run_study` returns it.

    Example:

    >>> phases({"start": 1.0, "imported": 5.0, "trials": [{"begin": 5.5, "fit": 6.0, "first": 9.0}]})
    {'import': 4.0, 'prepare': 1.0, 'first_step': 3.0, 'total': 8.0}
    """
    trial = watched["trials"][0]
    moments = (watched["start"], watched["imported"], trial["fit"], trial["first"])
    seconds = [later - earlier for earlier, later in itertools.pairwise(moments)]
    return dict(zip(PHASES, [*seconds, moments[-1] - moments[0]], strict=True))


def gaps(watched):
    """Returns for each trial the seconds from the last step before it, or the command, to its own first step.

    `starting` are those of them from where the trial begins, when the one before is evaluated and stored.

    Args:
        watched: As `run_study` returns it.

    Example:

    >>> trials = [{"begin": 6.0, "first": 9.0, "last": 10.0}, {"begin": 11.0, "first": 11.5, "last": 12.0}]
    >>> gaps({"start": 1.0, "trials": trials})
    [{'trial': 1, 'seconds': 8.0, 'starting': 3.0}, {'trial': 2, 'seconds': 1.5, 'starting': 0.5}]
    """
    ends = [watched["start"], *(trial["last"] for trial in watched["trials"])]
    return [
        {"trial": number, "seconds": trial["first"] - end, "starting": trial["first"] - trial["begin"]}
        for number, (trial, end) in enumerate(zip(watched["trials"], ends, strict=False), start=1)
    ]


def startup_table(frame):
    """Returns the table of start-up times.

    Args:
        frame: A row per network and round, with the columns of `PHASES`.
    """
    rows = [
        (network, *(f"{rounds[phase].median():.1f}" for phase in PHASES), str(len(rounds)))
        for network, rounds in frame.groupby("network", sort=False)
    ]
    return Table(
        "startup",
        "Seconds from the command to the end of the first training step of `python -m benchmarks.decathlon --gamma 1 "
        "--datasets digits --epochs 1`, float32: medians of n runs.",
        ("network", "start and imports", "until fit", "first step", "total", "n"),
        tuple(rows),
        notes=(machine_note(PACKAGES, keras.backend.backend()),),
    )


def sweep_table(frame):
    """Returns the table of the times between trials.

    Args:
        frame: A row per network, round and trial, with `seconds` and `starting`.
    """
    rows = []
    for network, trials in frame.groupby("network", sort=False):
        first, later = (trials[here] for here in (trials["trial"] == 1, trials["trial"] > 1))
        rows.append(
            (
                *(network, f"{first['seconds'].median():.1f}", str(len(first))),
                *(*_median_and_largest(later["seconds"]), *_median_and_largest(later["starting"]), str(len(later))),
            )
        )
    return Table(
        "sweep",
        f"A sweep of gamma = {', '.join(SWEEP_GAMMAS)} on digits in one command, one epoch each: seconds from the "
        "command to the first trial's first training step, and from a trial's last step to the next one's first, of "
        "which starting: from there where the trial before is evaluated and stored.",
        ("network", "first trial, s", "n", "later trials, median s", "largest", "starting, median s", "largest", "n"),
        tuple(rows),
        notes=(machine_note(PACKAGES, keras.backend.backend()),),
    )


def _median_and_largest(seconds):
    return f"{seconds.median():.2f}", f"{seconds.max():.2f}"
