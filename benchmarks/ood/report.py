"""What the study shows of its finished trials."""

import pandas as pd

from benchmarks.ood.corrections import corrections_tables, measure_corrections
from benchmarks.ood.figures import smoothing_curves, teacher_and_student
from benchmarks.ood.tables import accuracy_table, by_data_set, detection_table, smoothing_panels, teacher_panels
from benchmarks.published import published
from kls.study.command import finished_records
from kls.study.report.calibration import calibration_table
from kls.study.store import read_outputs


def report(plan, store, ood, scores):
    """Prints and writes the tables and figures of what is finished; the corrections, which take longest, come last.

    Args:
        plan: The `Plan`.
        store: The `RunStore`.
        ood: `{data set: names of OOD data sets}`.
        scores: Names of the scores of the corrections table.
    """
    records, _ = finished_records(plan, store)
    if not records:
        return
    networks, paper = by_data_set(pd.DataFrame(records), plan, ood), published("lee_cheon2020")
    store.show(*accuracy_table(networks, paper))
    store.show(*detection_table(networks, paper, _image_counts(networks, store)))
    _draw(store, "smoothing", smoothing_curves, smoothing_panels(networks))
    _draw(store, "teacher_and_student", teacher_and_student, teacher_panels(networks))
    smoothed = pd.concat([of.smoothed() for of in networks.values()])
    if len(smoothed):
        store.show(*calibration_table(smoothed))
    corrections = measure_corrections(networks, store, scores)
    if len(corrections):
        first, *others = corrections_tables(corrections, {name: of.classes for name, of in networks.items()})
        store.show(*first)
        for table, numbers in others:
            store.write_table(table, numbers)
    print(
        f"Tables, also of the corrections per OOD set: {store.out / 'tables'}; figures: {store.out / 'figures'}; "
        f"every trial: {store.out / 'results.csv'}"
    )


def _draw(store, name, plot, panels):
    if panels:
        store.write_figure(name, plot(panels), dpi=150)


def _image_counts(networks, store):
    """Returns `{(data set, OOD set): number of OOD images}`, from what the networks stored."""
    counts = {}
    for name, of in networks.items():
        for other in of.ood_sets:
            trial = next(record["trial"] for record in of.records.to_dict("records") if other in record["ood"])
            counts[name, other] = len(read_outputs(store.outputs_path(trial, other))["labels"])
    return counts
