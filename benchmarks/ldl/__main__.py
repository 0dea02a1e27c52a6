"""The command `python -m benchmarks.ldl`; what it does is told in `benchmarks.ldl`."""

import sys
from pathlib import Path

import pandas as pd

from benchmarks.ldl import STUDY
from benchmarks.ldl import __doc__ as about
from benchmarks.ldl.figures import draw_figures
from benchmarks.ldl.methods import GAMMA, HUMAN, METHODS
from benchmarks.ldl.plan import list_settings, make_plan
from benchmarks.ldl.tables import BASELINE, f1_table, measured, metrics_table, paper_tables, with_configuration
from benchmarks.paper import paper_parser, run_paper
from benchmarks.published import published
from kls.models import names
from kls.study.report.comparisons import comparison_table


def main(arguments=None):
    """Runs the study and returns its exit code: 0, 1 if a trial failed, 2 if it cannot be run, 130 if stopped."""
    return run_paper(_parser(), arguments, list_settings, make_plan, report, class_losses=True)


def report(study, results):
    """Prints and writes the tables and figures of what is finished; the table of F1 per class is not printed."""
    store, datasets = study.store, study.trainer.sources.datasets
    records = [with_configuration(record) for record in results.records]
    networks, paper = measured(records, store), published(STUDY)
    named = pd.DataFrame(records).assign(method=[record["configuration"] for record in records])
    comparison = comparison_table(named, store, BASELINE)
    compared = comparison and comparison[1]
    store.show(*metrics_table(networks, records, paper, compared))
    if comparison:
        store.show(*comparison)
    for table, numbers in paper_tables(networks, records, paper):
        store.show(table, numbers)
    store.write_table(*f1_table(records, store, {name: dataset.class_names for name, dataset in datasets.items()}))
    draw_figures(study.plan(), records, networks, store, datasets)


def _parser():
    parser = paper_parser(STUDY, about)
    add = parser.add_argument
    add(
        "--methods",
        nargs="+",
        metavar="NAME",
        help=f"{', '.join(METHODS)}, vanilla-MIXING, on-ldl-MIXING; each with + for the long schedule (default: the "
        "preset's)",
    )
    add("--students", nargs="+", choices=names(), metavar="MODEL", help="networks that learn")
    add(
        "--teacher",
        choices=(HUMAN, *names()),
        metavar="MODEL",
        help=f"network that one teacher is, or {HUMAN}: label distributions from --labels",
    )
    add("--ensemble", nargs="+", choices=names(), metavar="MODEL", help="networks that several teachers are")
    add(
        "--augment",
        metavar="MIXING",
        help="how images are mixed: mixup, cutmix, ricap, cutout, or a layer such as keras_cv.GridMask",
    )
    add("--gamma", type=float, metavar="G", help=f"probability of the true class in ls (default: {GAMMA})")
    add(
        "--labels",
        type=Path,
        metavar="FILE",
        help=f"for --teacher {HUMAN}: .npz with counts (N, K), how often people gave each training image each label",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
