"""The command `python -m benchmarks.decathlon`; what it does is told in `benchmarks.decathlon`."""

import sys

import pandas as pd

from benchmarks.decathlon import STUDY
from benchmarks.decathlon import __doc__ as about
from benchmarks.decathlon.figures import accuracy_against_gamma
from benchmarks.decathlon.plan import list_rows, make_plan
from benchmarks.decathlon.tables import accuracy_curves, accuracy_table, comparison_table
from benchmarks.paper import paper_parser, run_paper
from benchmarks.published import published
from kls.study.report.calibration import calibration_table


def main(arguments=None):
    """Runs the study and returns its exit code: 0, 1 if a trial failed, 2 if it cannot be run, 130 if stopped."""
    return run_paper(_parser(), arguments, list_rows, make_plan, report)


def report(study, results):
    """Prints and writes the tables and the figure of what is finished."""
    records, paper = pd.DataFrame(results.records), published("mezzini2018")
    study.store.show(*accuracy_table(records, paper, results.failures))
    study.store.show(*comparison_table(records, paper))
    study.store.show(*calibration_table(records))
    results.show_verdicts()
    if compared := results.comparison_table():
        study.store.show(*compared)
    study.store.write_figure("accuracy", accuracy_against_gamma(accuracy_curves(records, paper)), dpi=150)


def _parser():
    parser = paper_parser(STUDY, about)
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
