"""The command `python -m benchmarks.ood`; what it does is told in `benchmarks.ood`."""

import argparse
import sys

import pandas as pd

import benchmarks.ood
import kls
from benchmarks.ood.plan import SCORES, STUDY, list_rows, make_plan
from benchmarks.ood.repairs import measure_repairs, repairs_tables
from benchmarks.ood.tables import accuracy_table, by_data_set, detection_table, smoothing_panels, teacher_panels
from benchmarks.runner.calibration import calibration_table
from benchmarks.runner.command import finished_records, run_study
from benchmarks.runner.options import add_common_options, positive
from benchmarks.runner.published import published
from kls import plots


def main(arguments=None):
    """Runs the study and returns its exit code: 0, 1 if a trial failed, 2 if it cannot be run, 130 if stopped."""
    options = _parser().parse_args(arguments)
    if options.list:
        print(list_rows(options.data_dir))
        return 0
    return run_study(options, make_plan, lambda plan, store: report(plan, store, options.scores))


def _parser():
    parser = argparse.ArgumentParser(
        "python -m benchmarks.ood", description=benchmarks.ood.__doc__.split("\n\n")[0] + " Repeats Lee & Cheon 2020."
    )
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
        help="prepared data sets to expose a network to, each alone or several together; the first is that of Tables "
        "1 and 2",
    )
    parser.add_argument(
        "--other-student",
        choices=kls.models.names(),
        metavar="MODEL",
        help="second network to learn from the exposed one",
    )
    parser.add_argument("--tuning-epochs", type=positive, metavar="N", help="epochs of fine-tuning with outliers")
    add_common_options(parser, STUDY)
    parser.set_defaults(batch_size=128, scores=SCORES)
    return parser


def report(plan, store, score_names):
    """Prints and writes the tables and figures of what is finished.

    Args:
        plan: The `Plan`.
        store: The `RunStore`.
        score_names: Names of the scores of the repairs table.
    """
    records, _ = finished_records(plan, store)
    if not records:
        return
    frame, paper = pd.DataFrame(records), published("lee_cheon2020")
    networks = by_data_set(frame)
    smoothed = frame[frame["loss"] == "smoothed_ce"]
    repairs = measure_repairs(smoothed, store, score_names)
    classes = {name: of.classes for name, of in networks.items()}
    shown = [accuracy_table(networks, paper), detection_table(networks, paper), calibration_table(smoothed)]
    beside = repairs_tables(repairs, classes) if len(repairs) else []
    for table, numbers in (*shown, *beside):
        table.write(store.out / "tables", numbers)
    for table, _ in (*shown, *beside[:1]):
        print(f"\n{table.markdown()}")
    figures = {"smoothing": plots.smoothing_curves(smoothing_panels(networks))}
    if panels := teacher_panels(networks):
        figures["teacher_and_student"] = plots.teacher_and_student(panels)
    directory = store.out / "figures"
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(directory / f"{name}.png", dpi=150)
    print(
        f"Tables, also of the repairs per unfamiliar set: {store.out / 'tables'}; figures: {directory}; "
        f"every trial: {store.out / 'results.csv'}"
    )


if __name__ == "__main__":
    sys.exit(main())
