"""The table of calibration and OOD detection that every study shows beside its accuracies."""

import pandas as pd

from kls.study.outputs import BINS, CONVENTION
from kls.study.report.tables import Table, cell_of, display_name, percent, plain, reversed_note

METRICS = {
    "accuracy_last": ("accuracy %", percent, None),
    "ece": ("ECE %", percent, min),
    "nll": ("NLL", plain, min),
    "brier": ("Brier", plain, min),
}


def calibration_table(records, by="gamma"):
    """Returns calibration and OOD detection of the last epoch's networks per method, and their numbers as a frame.

    The best mean of a dataset and model is bold, but for accuracies, which a study marks in a table of their own, and
    for AUROCs below one half.

    Args:
        records: Frame of the records of finished trials.
        by: What tells methods apart: `gamma`, the largest first, or `method`, in the order of the records.
    """
    aurocs = sorted(name for name in records if name.startswith("auroc_"))
    metrics = METRICS | {
        name: (f"AUROC % {display_name(name.removeprefix('auroc_'))}", percent, max) for name in aurocs
    }
    rows, numbers = [], []
    for (dataset, model), group in records.groupby(["dataset", "model"], sort=False):
        cells = group.groupby(by, sort=False)
        means = {name: cells[name].mean() for name in metrics}
        best = {name: better(means[name].dropna(), default=None) for name, (_, _, better) in metrics.items() if better}
        best |= {name: None for name in aurocs if best[name] is not None and best[name] < 0.5}
        for value, cell in sorted(cells, reverse=True) if by == "gamma" else cells:
            shown = [
                cell_of(cell[name], form, len(cells) > 1 and means[name][value] == best.get(name))
                for name, (_, form, _) in metrics.items()
            ]
            named = f"{value:g}" if by == "gamma" else value
            rows.append((display_name(dataset), model, named, str(len(cell)), *shown))
            numbers.append(
                {
                    **{"dataset": dataset, "model": model, by: value, "n": len(cell)},
                    **{f"{name}_mean": means[name][value] for name in metrics},
                    **{f"{name}_std": cell[name].std() for name in metrics},
                }
            )
    against = "; AUROC by maximum softmax probability against OOD datasets" if aurocs else ""
    table = Table(
        "calibration",
        "Calibration of the last epoch's networks on the evaluation split: their accuracy (not marked), ECE with "
        f"{BINS} bins of equal width ({CONVENTION}'s convention), NLL in nats, Brier score as the sum over "
        f"classes{against}. n: trained networks per row.",
        ("data set", "model", {"gamma": "γ"}.get(by, by), "n", *(heading for heading, _, _ in metrics.values())),
        tuple(rows),
        reversed_note(pd.DataFrame(numbers)[[f"{name}_mean" for name in aurocs]]),
    )
    return table, pd.DataFrame(numbers)
