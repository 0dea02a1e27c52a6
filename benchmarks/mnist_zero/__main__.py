"""The command `python -m benchmarks.mnist_zero`; what it does is told in `benchmarks.mnist_zero`."""

import sys

from benchmarks.mnist_zero import STUDY
from benchmarks.mnist_zero import __doc__ as about
from benchmarks.mnist_zero.examine import THRESHOLD, examine
from benchmarks.mnist_zero.figures import draw_figures
from benchmarks.mnist_zero.plan import CLASSIFIER, CROSS_ENTROPY, list_rows, make_plan, method_named
from benchmarks.mnist_zero.tables import detectors_table, differences_table, measured, zero_table
from benchmarks.paper import paper_parser, run_paper
from benchmarks.published import published
from decathlon.options import positive


def main(arguments=None):
    """Runs the study and returns its exit code: 0, 1 if a trial failed, 2 if it cannot be run, 130 if stopped."""
    return run_paper(_parser(), arguments, list_rows, make_plan, report)


def report(study, results):
    """Examines what is finished, prints and writes the tables and draws the figures."""
    store, datasets, records = study.store, study.trainer.sources.datasets, results.records
    finished = {record["trial"] for record in records}
    for trial in study.plan().trials:
        if trial.id in finished:
            examine(trial, datasets[trial.dataset], store)
    networks = measured(records, store)
    store.show(*zero_table(networks, records, published("song")))
    store.show(*detectors_table(networks))
    if compared := differences_table(records, store):
        store.show(*compared)
    draw_figures(records, store, datasets)
    print(f"\nThresholds: {store.out / 'trials' / '*' / THRESHOLD}")


def _parser():
    parser = paper_parser(STUDY, about, one_model=True)
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
    return parser


if __name__ == "__main__":
    sys.exit(main())
