"""What the study shows of its finished trials."""

import decathlon
from benchmarks.ldl import STUDY
from benchmarks.ldl.figures import draw_figures
from benchmarks.ldl.tables import f1_table, measured, metrics_table, paper_tables, with_configuration
from benchmarks.published import published
from kls.study.command import finished_records


def report(plan, store, data_dir):
    """Prints and writes the tables and figures of what is finished.

    Args:
        plan: The `Plan`.
        store: The `RunStore`.
        data_dir: The data directory.
    """
    records, _ = finished_records(plan, store)
    if not records:
        return
    datasets = {trial.dataset: decathlon.open(trial.dataset, trial.image_size, data_dir) for trial in plan.trials}
    records = [with_configuration(record) for record in records]
    networks, paper = measured(records, store), published(STUDY)
    for table, numbers in (metrics_table(networks, records, paper), *paper_tables(networks, records, paper)):
        store.show(table, numbers)
    table, numbers = f1_table(records, store, {name: dataset.class_names for name, dataset in datasets.items()})
    store.write_table(table, numbers)
    draw_figures(plan, records, networks, store, datasets)
    print(
        f"Tables, also of F1 per class: {store.out / 'tables'}; figures: {store.out / 'figures'}; "
        f"every trial: {store.out / 'results.csv'}"
    )
