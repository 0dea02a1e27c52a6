"""How fast: training steps, start-up, sweeps and measures, and where the time goes.

    python -m benchmarks.throughput                    everything below; hours
    python -m benchmarks.throughput steps              training and inference images/s beside stock Keras and PyTorch
    python -m benchmarks.throughput startup sweep      seconds from the command to the first step, and between trials
    python -m benchmarks.throughput measures           accuracy, ECE, NLL and Brier score beside other packages
    python -m benchmarks.throughput profile roofline   where a step's time goes, and what this machine would allow

What is compared lives in processes of its own that take turns, `--repeats` rounds after one that warms up. Seconds are
medians, a ratio the median of the rounds' ratios. Packages that are not installed are left out.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

import decathlon.store
from benchmarks.options import PRECISIONS, directory, model_name, name_of, parse, positive
from benchmarks.throughput.race import RaceError

NETWORKS = ("resnet20v1", "resnet83v2", "wrn40-2", "densenet40-12")
PARTS = {  # what measures it, and which networks by default
    "steps": ("steps:measure", NETWORKS),
    "startup": ("startup:measure_startup", ("resnet20v1",)),
    "sweep": ("startup:measure_sweep", ("resnet20v1", "resnet83v2")),
    "measures": ("measures:measure", ()),
    "profile": ("step_profile:measure", NETWORKS),
    "roofline": ("roofline:measure", NETWORKS),
}


def main(arguments=None):
    """Measures what is asked for and returns the exit code: 0, 1 if a process died or none can run, 2 if it cannot be
    measured, 130 if it was stopped."""
    options = parse(_parser(), arguments)
    from benchmarks.runner.run import STOPPED

    try:
        for part in options.what or PARTS:
            place, networks = PARTS[part]
            measure(place, argparse.Namespace(**{**vars(options), "networks": options.networks or networks}))
    except (decathlon.store.DataError, RaceError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, RaceError) else 2
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
    parser.add_argument("what", nargs="*", type=_part, metavar="WHAT", help=f"among {', '.join(PARTS)} (default: all)")
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="rounds (default: %(default)s)")
    parser.add_argument(
        "--out", type=directory, default=Path("runs/throughput"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        type=model_name,
        metavar="NAME",
        help=f"default: {' '.join(NETWORKS)}; fewer for startup and sweep",
    )
    parser.add_argument(
        "--batch-sizes",
        nargs="+",
        type=positive,
        default=(64, 128),
        metavar="N",
        help="images per step (default: 64 128); profile takes the first",
    )
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, metavar="NAME", help="default: both"
    )
    parser.add_argument(
        "--forms",
        nargs="+",
        type=name_of("benchmarks.throughput.steps:FORMS"),
        metavar="NAME",
        help="steps: what takes turns, such as kls, keras and torch (default: all that are installed); a wrong name "
        "lists all",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=4.0,
        metavar="S",
        help="steps: how long a turn of training lasts at least (default: %(default)g)",
    )
    parser.add_argument("--datasets", metavar="NAME", help="prepared data set (default: enlarged digits)")
    parser.add_argument("--image-size", type=positive, metavar="N", help="side in pixels (default: 32)")
    parser.add_argument(
        "--data-dir",
        type=directory,
        default=decathlon.store.default_data_dir(),
        metavar="DIR",
        help="prepared data (default: %(default)s)",
    )
    parser.add_argument("--samples", type=positive, default=50_000, metavar="N", help="measures: default %(default)s")
    parser.add_argument("--classes", type=_classes, default=1_000, metavar="K", help="measures: default %(default)s")
    return parser


def _part(name):
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"must be among {', '.join(PARTS)}. Received: {name!r}")
    return name


def _classes(text):
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2. Received: {text}")
    return value


def _seconds(text):
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be finite and above 0. Received: {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
