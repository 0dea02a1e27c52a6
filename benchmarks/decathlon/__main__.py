"""The command `python -m benchmarks.decathlon`; what it does is told in `benchmarks.decathlon`."""

import argparse
import sys

from benchmarks.decathlon import STUDY
from benchmarks.decathlon import __doc__ as about
from benchmarks.options import add_common_options, parse


def main(arguments=None):
    """Runs the study and returns its exit code: 0, 1 if a trial failed, 2 if it cannot be run, 130 if stopped."""
    options = parse(_parser(), arguments)
    from benchmarks.decathlon.plan import list_rows, make_plan
    from benchmarks.decathlon.report import report
    from kls.study.command import run_paper

    if options.list:
        print(list_rows(options.data_dir))
        return 0
    return run_paper(
        options,
        lambda options: (make_plan(options), options.ood),
        lambda plan, store, _: report(plan, store),
    )


def _parser():
    parser = argparse.ArgumentParser(
        "python -m benchmarks.decathlon",
        description=about.split("\n\n")[0] + " Repeats Mezzini 2018.",
    )
    parser.add_argument(
        "--gamma",
        nargs="+",
        default=["0.9"],
        metavar="G",
        help="probabilities of the true class, run beside gamma = 1; or 'sweep' for the paper's grid (default: 0.9)",
    )
    add_common_options(parser, STUDY)
    return parser


if __name__ == "__main__":
    sys.exit(main())
