"""Measures of calibration beside scikit-learn and torchmetrics, and beside the prediction that they are made of."""

import importlib.util
import json
import sys
from contextlib import ExitStack

import pandas as pd

from benchmarks.runner.tables import Table
from benchmarks.throughput.images import open_images
from benchmarks.throughput.machine import machine_note
from benchmarks.throughput.peers import measures as peers
from benchmarks.throughput.race import Racer, alternate

PACKAGES = ("numpy", "scikit-learn", "torchmetrics", "torch")
EVALUATED = 10_000  # images
EVALUATED_CLASSES = (10, 100)


def measure(options):
    """Lets all peers take turns and shows the table, then that of the share that measures have in an evaluation.

    Args:
        options: Parsed command line.

    Raises:
        RaceError: If a process dies.
    """
    frame = race(options.samples, options.classes, options.repeats, options.out)
    measures_table(frame, options.samples, options.classes).show(options.out / "tables", frame)
    frame = evaluation(options)
    evaluation_table(frame).show(options.out / "tables", frame)


def race(samples, classes, repeats, out):
    """Returns a frame with a row per peer and round: `peer`, `round`, `seconds`, `memory` and the measures."""
    names = [name for name, (package, _) in peers.PEERS.items() if importlib.util.find_spec(package) is not None]
    rows = []
    with ExitStack() as stack:
        racers = {}
        for name in names:
            command = [sys.executable, peers.__file__, name, str(samples), str(classes)]
            racers[name] = stack.enter_context(Racer(name, command, out / "logs" / f"measures-{name}.log"))
            racers[name].ask()
        for number, name, answer in alternate(racers, repeats):
            rows.append({"peer": name, "round": number, **answer})
    return pd.DataFrame(rows)


def measures_table(frame, samples, classes):
    """Returns the table of times, memory and results.

    Args:
        frame: As `race` returns it.
        samples: Number of predictions.
        classes: Number of classes.
    """
    own = frame[frame["peer"] == "kls"]["seconds"].to_numpy()
    rows = []
    for name, rounds in frame.groupby("peer", sort=False):
        found = (rounds[measure].iloc[0] for measure in ("accuracy", "ece", "nll", "brier"))
        rows.append(
            (
                name,
                f"{rounds['seconds'].median():.2f}",
                f"{(rounds['seconds'] / own).median():.2f}",
                f"{rounds['memory'].max():.2f}",
                *("–" if pd.isna(value) else f"{value:.6f}" for value in found),
            )
        )
    return Table(
        "measures",
        f"Accuracy, ECE ({peers.BINS} bins), NLL and Brier score of {samples:,} x {classes:,} float32 logits: "
        f"medians of n = {len(own)} alternated rounds.",
        ("", "seconds", "x kls", "memory / logits", "accuracy", "ECE", "NLL", "Brier"),
        tuple(rows),
        notes=(f"{machine_note(PACKAGES)} –: not in the package. torchmetrics closes bins on the left.",),
    )


def evaluation(options):
    """Returns a frame of seconds per number of classes and round: `prediction` of images, and all `measures` of it."""
    dataset = open_images(options.datasets, options.image_size, options.data_dir, options.out / "data")
    settings = {
        "images": EVALUATED,
        "classes": EVALUATED_CLASSES,
        "dataset": dataset.name,
        "image_size": dataset.size,
        "data_dir": str(dataset.path.parent),
    }
    command = [sys.executable, "-m", "benchmarks.throughput.evaluation", json.dumps(settings)]
    with Racer("evaluation", command, options.out / "logs" / "evaluation.log") as racer:
        racer.ask()
        return pd.DataFrame(
            {"images": EVALUATED, "round": number, **row}
            for number, _, answer in alternate({"evaluation": racer}, options.repeats)
            for row in answer["rows"]
        )


def evaluation_table(frame):
    """Returns the table of the share that measures have in an evaluation.

    Args:
        frame: As `evaluation` returns it.
    """
    rows = [
        (
            *(str(classes), f"{rounds['prediction'].median():.3f}", f"{rounds['measures'].median():.4f}"),
            *(f"{100 * (rounds['measures'] / rounds['prediction']).median():.1f}", str(len(rounds))),
        )
        for classes, rounds in frame.groupby("classes")
    ]
    return Table(
        "evaluation",
        f"Seconds of all measures of {frame['images'].iloc[0]:,} x K logits beside those that resnet20v1 takes in "
        "float32 to predict as many images: medians of n rounds, the share the median of the rounds' ratios.",
        ("K", "prediction, s", "measures, s", "share %", "n"),
        tuple(rows),
        notes=(
            "Measures: all of `kls.calibration.summarize` and `MEASURES`, and AUROC, AUPR and FPR of as many "
            f"unfamiliar images. {machine_note(('keras', 'tensorflow', 'jax', 'numpy'))}",
        ),
    )
