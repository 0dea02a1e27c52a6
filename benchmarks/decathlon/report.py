"""What the study shows of its finished trials."""

import pandas as pd

from benchmarks.decathlon.figures import accuracy_against_gamma
from benchmarks.decathlon.tables import accuracy_curves, accuracy_table, comparison_table
from benchmarks.published import published
from kls.study.command import finished_records
from kls.study.report.calibration import calibration_table


def report(plan, store):
    """Prints and writes the tables and the figure of what is finished."""
    records, failures = finished_records(plan, store)
    if not records:
        return
    records, paper = pd.DataFrame(records), published("mezzini2018")
    tables = accuracy_table(records, paper, failures), comparison_table(records, paper), calibration_table(records)
    for table, frame in tables:
        store.show(table, frame)
    store.write_figure("accuracy", accuracy_against_gamma(accuracy_curves(records, paper)), dpi=150)
    print(
        f"Tables and figures: {store.out / 'tables'}, {store.out / 'figures'}; every trial: {store.out / 'results.csv'}"
    )
