"""The command `python -m benchmarks.mnist_zero`; what it does is told in `benchmarks.mnist_zero`."""

import argparse
import sys

from benchmarks.mnist_zero import STUDY
from benchmarks.mnist_zero import __doc__ as about
from benchmarks.mnist_zero.methods import CLASSIFIER, CROSS_ENTROPY, method_named
from benchmarks.options import add_common_options, parse, positive


def main(arguments=None):
    """Runs the study and returns its exit code: 0, 1 if a trial failed, 2 if it cannot be run, 130 if stopped."""
    options = parse(_parser(), arguments)
    from benchmarks.mnist_zero.plan import list_rows, make_plan
    from benchmarks.mnist_zero.report import report
    from kls.study.command import run_paper

    if options.list:
        print(list_rows(options.data_dir))
        return 0
    return run_paper(options, make_plan, lambda plan, store, ood: report(plan, store, options.data_dir))


def _parser():
    parser = argparse.ArgumentParser(
        "python -m benchmarks.mnist_zero",
        description=about.split("\n\n")[0] + " Repeats Song's report.",
    )
    parser.add_argument(
        "--held-out",
        nargs="+",
        metavar="CLASS",
        help="classes to hold out, each in networks of its own: names or indices (default: 0)",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        type=method_named,
        metavar="METHOD",
        help=f"ways of training: {CROSS_ENTROPY}, {CLASSIFIER}, or std-W with any weight W (default: the preset's)",
    )
    parser.add_argument(
        "--validation",
        type=positive,
        metavar="N",
        help="training images held out to choose thresholds on (default: the paper's share, 5,000 of 54,077)",
    )
    add_common_options(parser, STUDY, one_model=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
