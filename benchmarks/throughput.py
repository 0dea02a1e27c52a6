"""How fast: `kls` beside its peers on the same work, alternated in one run.

    python -m benchmarks.throughput measures      accuracy, ECE, NLL and Brier score of 50,000 x 1,000 logits

Each peer lives in a process of its own and all take turns, `--repeats` rounds after one that warms up. Seconds are
medians, a ratio the median of the rounds' ratios. Memory is the largest growth of the process's resident memory in a
round, in units of the logits (Linux). Peers that are not installed are left out.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from benchmarks import peers
from benchmarks.runner.options import positive
from benchmarks.runner.tables import Table

SAMPLES, CLASSES = 50_000, 1_000
PACKAGES = ("numpy", "scikit-learn", "torchmetrics", "torch")


def main(arguments=None):
    """Measures, prints and writes the table and returns the exit code 0."""
    options = _parser().parse_args(arguments)
    frame = race(options.samples, options.classes, options.repeats)
    table = measures_table(frame, options.samples, options.classes)
    table.write(options.out / "tables", frame)
    print(table.markdown())
    return 0


def _parser():
    parser = argparse.ArgumentParser("python -m benchmarks.throughput", description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=("measures",), help="measures: calibration measures of stored logits")
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="rounds (default: %(default)s)")
    parser.add_argument("--samples", type=positive, default=SAMPLES, metavar="N", help="default: %(default)s")
    parser.add_argument("--classes", type=positive, default=CLASSES, metavar="K", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/throughput"), metavar="DIR", help="default: %(default)s")
    return parser


def race(samples, classes, repeats):
    """Returns a frame with a row per peer and round: `peer`, `round`, `seconds`, `memory` and the measures."""
    names = [name for name, (package, _) in peers.PEERS.items() if importlib.util.find_spec(package) is not None]
    rows = []
    with ExitStack() as stack:
        processes = {name: stack.enter_context(_start(name, samples, classes)) for name in names}
        for number in range(repeats + 1):
            for name, process in processes.items():
                found = _ask(name, process)
                if number:
                    rows.append({"peer": name, "round": number, **found})
    return pd.DataFrame(rows)


def _start(name, samples, classes):
    command = [sys.executable, "-P", peers.__file__, name, str(samples), str(classes)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _ask(name, process):
    process.stdin.write("\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"{name} ended with exit code {process.wait()}")
    return json.loads(answer)


def measures_table(frame, samples, classes):
    """Returns the table of times, memory and results."""
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
    installed = [name for name in PACKAGES if _is_installed(name)]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in installed)
    return Table(
        "measures",
        f"Accuracy, ECE ({peers.BINS} bins), NLL and Brier score of {samples:,} x {classes:,} float32 logits: "
        f"medians of n = {len(own)} alternated rounds.",
        ("", "seconds", "x kls", "memory / logits", "accuracy", "ECE", "NLL", "Brier"),
        tuple(rows),
        notes=(
            f"{os.cpu_count()} cores, {platform.machine()}; Python {platform.python_version()}, {versions}. "
            "–: not in the package. torchmetrics closes bins on the left.",
        ),
    )


def _is_installed(name):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
