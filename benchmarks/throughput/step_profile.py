"""Where the time of a training step goes."""

import json
import sys

import keras
import pandas as pd

from benchmarks.runner.tables import Table
from benchmarks.throughput.images import check_batch_sizes, open_images
from benchmarks.throughput.machine import machine_note
from benchmarks.throughput.profiled_step import GROUPS, PROFILED_STEPS
from benchmarks.throughput.race import Racer, alternate

PACKAGES = ("keras", "tensorflow", "numpy")
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
NO_OPERATION = "no operation"
INPUT = "making a batch"


def measure(options):
    """Profiles a training step of each network and precision and shows the table.

    Args:
        options: Parsed command line.

    Raises:
        DataError: If the data set is not prepared.
        ValueError: If it has fewer images than a batch.
        RaceError: If a process dies.
    """
    if keras.backend.backend() != "tensorflow":
        print(f"profile is left out: it needs the TensorFlow backend. Keras runs on {keras.backend.backend()}.")
        return
    dataset = open_images(options.datasets, options.image_size, options.data_dir, options.out / "data")
    check_batch_sizes(options.batch_sizes[:1], dataset)
    rows = []
    for network in options.networks:
        for precision in options.precisions:
            rows += _profile(network, precision, dataset, options)
            print(f"{network}-{precision}  profiled", flush=True)
    frame = pd.DataFrame(rows)
    profile_table(frame, options.batch_sizes[0]).show(options.out / "tables", frame)


def _profile(network, precision, dataset, options):
    """Returns a row of seconds per part of a step, and round, of one network."""
    settings = {
        **{"model": network, "batch_size": options.batch_sizes[0], "precision": precision},
        **{"dataset": dataset.name, "image_size": dataset.size, "data_dir": str(dataset.path.parent)},
    }
    command = [sys.executable, "-m", "benchmarks.throughput.profiled_step", json.dumps(settings)]
    log = options.out / "logs" / f"profile-{network}-{precision}.log"
    rows = []
    with Racer(f"profile of {network}", command, log, ONE_THREAD) as racer:
        racer.ask()
        for number, _, answer in alternate({network: racer}, options.repeats):
            parts = {
                **answer["groups"],
                NO_OPERATION: answer["step"] - sum(answer["groups"].values()),
                INPUT: answer["input"],
            }
            place = {"network": network, "precision": precision, "round": number, "step": answer["step"]}
            rows += [{**place, "part": part, "seconds": seconds} for part, seconds in parts.items()]
    return rows


def profile_table(frame, batch_size):
    """Returns the table of the shares of a step.

    Args:
        frame: A row per network, precision, round and part, with the `seconds` of the part and of the `step`.
        batch_size: Images per step.
    """
    shares = frame.assign(share=100 * frame["seconds"] / frame["step"])
    columns = list(dict.fromkeys(zip(frame["network"], frame["precision"], strict=True)))
    medians = shares.groupby(["network", "precision", "part"])["share"].median()
    steps = frame.groupby(["network", "precision"])["step"].median()
    rows = [
        (part, *(f"{medians[(*column, part)]:.1f}" for column in columns)) for part in (*GROUPS, NO_OPERATION, INPUT)
    ]
    rows.append(("step, ms", *(f"{1e3 * steps[column]:,.1f}" for column in columns)))
    rounds = frame["round"].nunique()
    return Table(
        "profile",
        f"Shares of a training step of {batch_size} images in %, by TensorFlow's profiler, on one thread: medians of "
        f"n = {rounds} rounds of {PROFILED_STEPS} steps.",
        ("", *(f"{network} {precision}" for network, precision in columns)),
        tuple(rows),
        notes=(
            "One thread, so that operations do not overlap: with more, the shares of those that do not run in parallel "
            f"grow. {NO_OPERATION}: Python, the executor and the profiler itself. {INPUT}: not part of the step, but "
            "done beside it in a thread of its own, as a share of the step. Biases are added within the convolutions.",
            machine_note(PACKAGES),
        ),
    )
