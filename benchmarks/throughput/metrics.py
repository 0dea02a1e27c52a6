"""Metrics of calibration beside scikit-learn and torchmetrics."""

import importlib.util
import sys

import pandas as pd

from benchmarks.throughput.peers import metrics as peers
from benchmarks.throughput.workers import alternate
from kls.study.machine import machine_note
from kls.study.report.tables import Table

PACKAGES = ("numpy", "scikit-learn", "torchmetrics", "torch")
SAMPLES, CLASSES = 50_000, 1_000


def measure(options):
    """Compares all peers and shows the table."""
    frame = compare(SAMPLES, CLASSES, options.repeats, options.out)
    metrics_table(frame, SAMPLES, CLASSES).show(options.out / "tables", frame)


def compare(samples, classes, rounds, out):
    """Returns a frame with a row per peer and round: `peer`, `round`, `seconds`, `memory` and the metrics."""
    commands = {
        name: [sys.executable, peers.__file__, name, str(samples), str(classes)]
        for name, (package, _) in peers.PEERS.items()
        if importlib.util.find_spec(package) is not None
    }
    answers = alternate(commands, rounds, out / "logs")
    return pd.DataFrame({"peer": name, "round": number, **answer} for number, name, answer in answers if number)


def metrics_table(frame, samples, classes):
    """Returns the table of times, memory and results of a frame as `compare` returns it."""
    own = frame[frame["peer"] == "kls"]["seconds"].to_numpy()
    rows = [
        (
            *(name, f"{rounds['seconds'].median():.2f}", f"{(rounds['seconds'] / own).median():.2f}"),
            f"{rounds['memory'].max():.2f}",
            *("–" if pd.isna(value) else f"{value:.6f}" for value in rounds[list(peers.METRICS)].iloc[0]),
        )
        for name, rounds in frame.groupby("peer", sort=False)
    ]
    return Table(
        "metrics",
        f"Accuracy, ECE ({peers.BINS} bins), NLL and Brier score of {samples:,} x {classes:,} float32 logits: "
        f"medians of n = {len(own)} alternated rounds.",
        ("", "seconds", "x kls", "memory / logits", "accuracy", "ECE", "NLL", "Brier"),
        tuple(rows),
        notes=(f"{machine_note(PACKAGES)} –: not in the package. torchmetrics closes bins on the left.",),
    )
