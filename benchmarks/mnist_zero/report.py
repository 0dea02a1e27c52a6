"""What the study shows of its finished trials."""

import decathlon
from benchmarks.mnist_zero.examine import THRESHOLD, examine
from benchmarks.mnist_zero.figures import draw_figures
from benchmarks.mnist_zero.tables import detectors_table, measured, zero_table
from benchmarks.published import published
from kls.study.command import finished_records


def report(plan, store, data_dir):
    """Examines what is finished, prints and writes the tables and draws the figures.

    Args:
        plan: The `Plan`.
        store: The `RunStore`.
        data_dir: The data directory.
    """
    records, _ = finished_records(plan, store)
    if not records:
        return
    of_trial = {trial.id: trial for trial in plan.trials}
    datasets = {r["dataset"]: decathlon.open(r["dataset"], r["image_size"], data_dir) for r in records}
    for record in records:
        examine(of_trial[record["trial"]], datasets[record["dataset"]], store)
    networks = measured(records, store)
    for table, frame in (zero_table(networks, records, published("song")), detectors_table(networks)):
        store.show(table, frame)
    draw_figures(records, store, datasets)
    print(
        f"Tables: {store.out / 'tables'}; figures: {store.out / 'figures'}; every trial, and its {THRESHOLD}: "
        f"{store.out / 'trials'}"
    )
