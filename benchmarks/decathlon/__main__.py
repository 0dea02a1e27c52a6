"""The command `python -m benchmarks.decathlon`; what it does is told in `benchmarks.decathlon`."""

import sys

import pandas as pd

from benchmarks.decathlon import STUDY
from benchmarks.decathlon import __doc__ as about
from benchmarks.decathlon.figures import differences_against_gamma
from benchmarks.decathlon.plan import SEEDS, list_rows, make_plan
from benchmarks.decathlon.tables import accuracy_table, best_table, published_differences
from benchmarks.paper import paper_parser, run_paper
from benchmarks.published import published
from kls.study.report.calibration import calibration_table


def main(arguments=None):
    """Runs the study and returns its exit code: 0, 1 if a trial failed, 2 if it cannot be run, 130 if stopped."""
    return run_paper(_parser(), arguments, list_rows, make_plan, report)


def report(study, results):
    """Prints and writes the tables and the figure of what is finished."""
    records, paper = pd.DataFrame(results.records), published("mezzini2018")
    comparison = results.comparison_table()
    compared = comparison and comparison[1]
    study.store.show(*accuracy_table(records, paper, compared, results.failures))
    study.store.show(*best_table(records, paper))
    study.store.show(*calibration_table(records, compared=compared))
    results.show_verdicts()
    if comparison:
        study.store.show(*comparison)
        gammas = dict(zip(records["method"], records["gamma"], strict=True))
        numbers = compared.assign(gamma=compared["method"].map(gammas))
        figure = differences_against_gamma(numbers, published_differences(records, paper))
        study.store.write_figure("differences", figure, dpi=150)


def _parser():
    parser = paper_parser(STUDY, about)
    parser.set_defaults(seeds=SEEDS)
    parser.add_argument(
        "--gamma",
        nargs="+",
        default=["0.9"],
        metavar="G",
        help="probabilities of the true class, run beside gamma = 1; or 'sweep' for the paper's grid (default: 0.9)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
