"""The command `python -m benchmarks.tables`; what it does is told in `benchmarks.tables`."""

import argparse
import re
import sys
from functools import partial

from benchmarks.tables import __doc__ as about
from benchmarks.tables.measured import make_table, measure_run
from decathlon.options import directory, positive
from kls import calibration, ood
from kls.calibration.reliability import BINNINGS, CONVENTIONS
from kls.ood.scores import SCORES
from kls.study.store import RunStore, StoreError


def main(arguments=None):
    """Prints and writes the table.

    Returns:
        Exit code: 0, 1 if trials are left out, 2 if the table cannot be made or written.
    """
    options = _parser().parse_args(arguments)
    store = RunStore(options.run)
    try:
        frame = measure_run(store, options)
        table = make_table(frame, options)
        print(table.markdown(), flush=True)
        table.write(options.run / "tables", frame)
    except (StoreError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Written to {options.run / 'tables' / table.name}.md, .csv and .tex")
    return 1 if store.left_out else 0


def _parser():
    parser = argparse.ArgumentParser("python -m benchmarks.tables", description=about.split("\n\n")[0])
    parser.add_argument("run", type=directory, metavar="RUN_DIR", help="what the study was given as --out")
    add = partial(parser.add_argument, metavar="NAME")
    add(
        "--metric",
        nargs="+",
        choices=(*calibration.METRICS, *ood.METRICS),
        default=["accuracy", "ece", "nll", "brier"],
        help="what to show (default: accuracy ece nll brier); a wrong name lists all",
    )
    add("--score", choices=SCORES, default="msp", help="for AUROC and the like (default: msp)")
    parser.add_argument("--bins", type=positive, metavar="N", help="bins of the binned metrics (default: 15)")
    add(
        "--binning",
        choices=BINNINGS,
        help="bins of equal width or equal mass (default: the metric's)",
    )
    add(
        "--convention",
        choices=CONVENTIONS,
        help="where bins of equal width close (default: guo)",
    )
    add(
        "--ood-convention",
        choices=ood.CONVENTIONS,
        default="odin",
        help="which side is positive in AUPR and FPR: ID, or OOD as in OpenOOD (default: odin)",
    )
    parser.add_argument("--resamples", type=positive, metavar="N", help="show each network with its 95 %% intervals")
    add("--name", type=_file_name, default="metrics", help="name of the files in RUN_DIR/tables (default: metrics)")
    return parser


def _file_name(text):
    if not re.fullmatch(r"\w[\w.-]*", text):
        raise argparse.ArgumentTypeError(f"must consist of letters, digits, '-', '_' and '.'. Received: {text!r}")
    return text


if __name__ == "__main__":
    sys.exit(main())
