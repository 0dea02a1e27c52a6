"""How fast: training steps, start-up, sweeps, metrics and guarded models.

    python -m benchmarks.throughput                  everything below; hours
    python -m benchmarks.throughput steps            training and inference images/s beside stock Keras and PyTorch
    python -m benchmarks.throughput startup sweep    seconds from the command to the first step, and between trials
    python -m benchmarks.throughput metrics          accuracy, ECE, NLL and Brier score beside other packages
    python -m benchmarks.throughput guards           a guarded model in each format that it can be exported to

Peers run in alternation, each in a process of its own, `--repeats` rounds after one that warms up. Seconds are medians,
a ratio is the median of the rounds' ratios. Packages that are not installed are left out.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

import decathlon.store
from benchmarks.throughput.steps import FORMS
from benchmarks.throughput.workers import WorkerError
from decathlon.options import directory, positive
from kls.models import names
from kls.study.precision import PRECISIONS
from kls.study.run import STOPPED

NETWORKS = ("resnet20v1", "resnet83v2", "wrn40-2", "densenet40-12")
PARTS = {  # what measures it, and which networks by default
    "steps": ("steps:measure", NETWORKS),
    "startup": ("startup:measure_startup", ("resnet20v1",)),
    "sweep": ("startup:measure_sweep", ("resnet20v1", "resnet83v2")),
    "metrics": ("metrics:measure", ()),
    "guards": ("guards:measure", ("resnet20v1",)),
}


def main(arguments=None):
    """Measures what is asked for and returns the exit code: 0, 1 if a process died, 2 if it cannot be measured, 130 if
    it was stopped."""
    options = _parser().parse_args(arguments)
    try:
        for part in options.what or PARTS:
            place, networks = PARTS[part]
            measure(place, argparse.Namespace(**{**vars(options), "networks": options.networks or networks}))
    except (decathlon.store.DataError, WorkerError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, WorkerError) else 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return STOPPED
    return 0


def measure(place, options):
    """Measures a part: `place` is `module:function` of this package."""
    module, function = place.split(":")
    getattr(import_module(f"benchmarks.throughput.{module}"), function)(options)


def _parser():
    parser = argparse.ArgumentParser("python -m benchmarks.throughput", description=__doc__.split("\n\n")[0])

    def add(name, help, metavar="NAME", **settings):
        parser.add_argument(name, help=help, metavar=metavar, **settings)

    add("what", f"among {', '.join(PARTS)} (default: all)", nargs="*", type=_part, metavar="WHAT")
    add("--repeats", "rounds (default: %(default)s)", type=positive, default=5, metavar="N")
    add("--networks", f"default: {' '.join(NETWORKS)}; fewer for startup and sweep", nargs="+", choices=names())
    add("--batch-sizes", "steps: images (default: 64 128)", nargs="+", type=positive, default=(64, 128), metavar="N")
    add("--precisions", "steps (default: both)", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    forms = "steps: what is compared, such as kls, keras and torch (default: all that can run); a wrong name lists all"
    add("--forms", forms, nargs="+", choices=FORMS)
    seconds = "steps: how long a form trains in a round at least (default: %(default)g)"
    add("--seconds", seconds, type=_seconds, default=4.0, metavar="S")
    add("--datasets", "steps, guards: a prepared dataset (default: digits; steps: enlarged)", default="digits")
    add("--image-size", "steps: side in pixels (default: the prepared one; of digits 32)", type=positive, metavar="N")
    data_dir = decathlon.store.default_data_dir()
    add("--data-dir", "prepared data (default: %(default)s)", type=directory, default=data_dir, metavar="DIR")
    out = Path("runs/throughput")
    add("--out", "results (default: %(default)s)", type=directory, default=out, metavar="DIR")
    return parser


def _part(name):
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"must be among {', '.join(PARTS)}. Received: {name!r}")
    return name


def _seconds(text):
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be finite and above 0. Received: {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
