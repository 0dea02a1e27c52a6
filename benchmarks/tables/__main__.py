"""The command `python -m benchmarks.tables`; what it does is told in `benchmarks.tables`."""

import argparse
import sys
from pathlib import Path

from benchmarks.options import BINNINGS, CONVENTIONS, MEASURES, SCORES, parse, positive
from benchmarks.tables import __doc__ as about


def main(arguments=None):
    """Prints and writes the table and returns the exit code: 0, or 2 if it cannot be made."""
    options = _parser().parse_args(arguments)
    try:
        frame = measure_run(options)
        table = make_table(frame, options)
        table.write(options.run / "tables", frame)
    except (StoreError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table.markdown())
    print(f"Written to {options.run / 'tables' / table.name}.md, .csv and .tex")
    return 0


def _parser():
    parser = argparse.ArgumentParser("python -m benchmarks.tables", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="what the study was given as --out")
    parser.add_argument(
        "--measure",
        nargs="+",
        choices=(*calibration.MEASURES, *ood.MEASURES),
        default=["accuracy", "ece", "nll", "brier"],
        metavar="NAME",
        help=f"among {', '.join((*calibration.MEASURES, *ood.MEASURES))} (default: accuracy ece nll brier)",
    )
    parser.add_argument("--score", choices=SCORES, default="msp", help="for AUROC and the like (default: msp)")
    parser.add_argument("--bins", type=positive, metavar="N", help="bins of the binned measures (default: 15)")
    parser.add_argument(
        "--binning", choices=BINNINGS, help="bins of equal width or equal mass (default: the measure's)"
    )
    parser.add_argument("--convention", choices=CONVENTIONS, help="where bins of equal width close (default: guo)")
    parser.add_argument(
        "--resamples", type=positive, metavar="N", help="show each network with its 95 %% bootstrap interval"
    )
    parser.add_argument("--name", default="measures", help="name of the files in RUN_DIR/tables (default: measures)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
