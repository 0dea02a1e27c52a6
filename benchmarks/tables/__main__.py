"""The command `python -m benchmarks.tables`; what it does is told in `benchmarks.tables`."""

import argparse
import sys
from pathlib import Path

from benchmarks.options import name_of, parse, positive, score_name
from benchmarks.tables import __doc__ as about


def main(arguments=None):
    """Prints and writes the table and returns the exit code: 0, or 2 if it cannot be made."""
    options = parse(_parser(), arguments)
    from benchmarks.runner.store import StoreError
    from benchmarks.tables.measured import make_table, measure_run

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
    parser = argparse.ArgumentParser("python -m benchmarks.tables", description=about.split("\n\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="what the study was given as --out")
    parser.add_argument(
        "--measure",
        nargs="+",
        type=name_of("kls.calibration:MEASURES", "kls.ood:MEASURES"),
        default=["accuracy", "ece", "nll", "brier"],
        metavar="NAME",
        help="what to show (default: accuracy ece nll brier); a wrong name lists all",
    )
    parser.add_argument(
        "--score", type=score_name, default="msp", metavar="NAME", help="for AUROC and the like (default: msp)"
    )
    parser.add_argument("--bins", type=positive, metavar="N", help="bins of the binned measures (default: 15)")
    parser.add_argument(
        "--binning",
        type=name_of("kls.calibration.reliability:BINNINGS"),
        metavar="NAME",
        help="bins of equal width or equal mass (default: the measure's)",
    )
    parser.add_argument(
        "--convention",
        type=name_of("kls.calibration.reliability:CONVENTIONS"),
        metavar="NAME",
        help="where bins of equal width close (default: guo)",
    )
    parser.add_argument(
        "--resamples", type=positive, metavar="N", help="show each network with its 95 %% bootstrap interval"
    )
    parser.add_argument("--name", default="measures", help="name of the files in RUN_DIR/tables (default: measures)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
