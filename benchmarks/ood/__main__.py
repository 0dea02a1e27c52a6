"""The command `python -m benchmarks.ood`; what it does is told in `benchmarks.ood`."""

import sys

import pandas as pd

from benchmarks.ood import SCORES, STUDY
from benchmarks.ood import __doc__ as about
from benchmarks.ood.corrections import corrections_tables, measure_corrections
from benchmarks.ood.figures import smoothing_curves, teacher_and_student
from benchmarks.ood.plan import list_rows, make_plan
from benchmarks.ood.tables import (
    accuracy_table,
    by_data_set,
    compared_records,
    detection_table,
    smoothing_panels,
    teacher_panels,
)
from benchmarks.paper import paper_parser, run_paper
from benchmarks.published import published
from decathlon.options import positive
from kls.models import names
from kls.study.judging import show_verdicts, verdicts_of
from kls.study.report.calibration import calibration_table
from kls.study.report.comparisons import comparison_table


def main(arguments=None):
    """Runs the study and returns its exit code: 0, 1 if a trial failed, 2 if it cannot be run, 130 if stopped."""
    return run_paper(_parser(), arguments, list_rows, make_plan, report)


def report(study, results):
    """Prints and writes the tables and figures of what is finished; the corrections, which take longest, come last."""
    store, ood, paper = study.store, study.trainer.sources.ood, published("lee_cheon2020")
    networks = by_data_set(pd.DataFrame(results.records), study.plan(), ood)
    comparison = comparison_table(compared_records(networks), store)
    compared = comparison and comparison[1]
    store.show(*accuracy_table(networks, paper, compared))
    store.show(*detection_table(networks, paper, ood))
    if panels := smoothing_panels(networks):
        store.write_figure("smoothing", smoothing_curves(panels), dpi=150)
    if panels := teacher_panels(networks):
        store.write_figure("teacher_and_student", teacher_and_student(panels), dpi=150)
    smoothed = pd.concat([of.smoothed() for of in networks.values()])
    if len(smoothed):
        store.show(*calibration_table(smoothed, compared=compared))
        show_verdicts(verdicts_of(smoothed.to_dict("records"), store), store)
    if comparison:
        store.show(*comparison)
    corrections = measure_corrections(networks, store, study.scores)
    if len(corrections):
        first, *others = corrections_tables(corrections, {name: of.classes for name, of in networks.items()})
        store.show(*first)
        for table, numbers in others:
            store.write_table(table, numbers)


def _parser():
    parser = paper_parser(STUDY, about)
    parser.set_defaults(batch_size=128, scores=SCORES)
    softness = parser.add_mutually_exclusive_group()
    softness.add_argument(
        "--alpha",
        nargs="*",
        type=float,
        metavar="A",
        help="uniform smoothing, run beside alpha = 0 (default: the preset's)",
    )
    softness.add_argument(
        "--gamma",
        nargs="+",
        type=float,
        metavar="G",
        help="the same as probabilities of the true class, 1 - alpha (K-1)/K",
    )
    parser.add_argument(
        "--outliers",
        nargs="+",
        type=lambda text: tuple(dict.fromkeys(text.split("+"))),
        metavar="NAME[+NAME]",
        help="prepared datasets to expose a network to, each alone or several together; the first is that of Tables "
        "1 and 2",
    )
    second = "second network to learn from the exposed one"
    parser.add_argument("--other-student", choices=names(), metavar="MODEL", help=second)
    parser.add_argument(
        "--tuning-epochs",
        type=positive,
        metavar="N",
        help="epochs of fine-tuning with outliers (default: the preset's, whatever --epochs)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
