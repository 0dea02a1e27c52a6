"""The table of calibration and OOD detection that every study shows beside its accuracies."""

import pandas as pd

from benchmarks.runner.outputs import BINS, CONVENTION
from benchmarks.runner.tables import Bold, Table, display_name, percent, plain, reversed_note

MEASURES = {
    "accuracy_last": ("accuracy %", percent, None),
    "ece": ("ECE %", percent, min),
    "nll": ("NLL", plain, min),
    "brier": ("Brier", plain, min),
}


def calibration_table(records):
    """Returns calibration and OOD detection of the last epoch's networks per gamma, and their numbers as a frame.

    The best mean of a data set and model is bold, but for accuracies, which a study marks in a table of their own, and
    for AUROCs below one half.

    Args:
        records: Frame of the records of finished trials.
    """
    aurocs = sorted(name for name in records if name.startswith("auroc_"))
    measures = MEASURES | {
        name: (f"AUROC % {display_name(name.removeprefix('auroc_'))}", percent, max) for name in aurocs
    }
    rows, numbers = [], []
    for (dataset, model), group in records.groupby(["dataset", "model"], sort=False):
        cells = group.groupby("gamma")
        means = {name: cells[name].mean() for name in measures}
        best = {name: better(means[name].dropna(), default=None) for name, (_, _, better) in measures.items() if better}
        best |= {name: None for name in aurocs if best[name] is not None and best[name] < 0.5}
        for gamma, cell in sorted(cells, reverse=True):
            shown = [
                _cell(cell[name].dropna(), form, len(cells) > 1 and means[name][gamma] == best.get(name))
                for name, (_, form, _) in measures.items()
            ]
            rows.append((display_name(dataset), model, f"{gamma:g}", str(len(cell)), *shown))
            numbers.append(
                {
                    **{"dataset": dataset, "model": model, "gamma": gamma, "n": len(cell)},
                    **{f"{name}_mean": means[name][gamma] for name in measures},
                    **{f"{name}_std": cell[name].std() for name in measures},
                }
            )
    against = "; AUROC by maximum softmax probability against unfamiliar data sets" if aurocs else ""
    table = Table(
        "calibration",
        "Calibration of the last epoch's networks on the evaluation split: their accuracy (not marked), ECE with "
        f"{BINS} bins of equal width ({CONVENTION}'s convention), NLL in nats, Brier score as the sum over "
        f"classes{against}. n: trained networks per row.",
        ("data set", "model", "γ", "n", *(heading for heading, _, _ in measures.values())),
        tuple(rows),
        reversed_note(pd.DataFrame(numbers)[[f"{name}_mean" for name in aurocs]]),
    )
    return table, pd.DataFrame(numbers)


def _cell(values, form, bold):
    if values.empty:
        return "–"
    return Bold(form(values)) if bold else form(values)
