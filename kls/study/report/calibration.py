"""The table of calibration and OOD detection that every study shows beside its accuracies."""

import pandas as pd

from kls.study.outputs import BINS, CONVENTION
from kls.study.report.comparisons import better_cells, bold_note
from kls.study.report.tables import Table, cell_of, display_name, named_rows, percent, reversed_note, thousandths

METRICS = {
    "accuracy_last": ("accuracy %", percent, "accuracy"),
    "ece": ("ECE %", percent, "ece"),
    "nll": ("NLL", thousandths, "nll"),
    "brier": ("Brier", thousandths, "brier"),
}


def calibration_table(records, by="gamma", compared=None):
    """Returns calibration and OOD detection of the last epoch's networks per method, and their numbers as a frame.

    Bold is what is better than the baseline by the interval of their difference, but for AUROCs below one half.

    Args:
        records: Frame of the records of finished trials.
        by: What tells methods apart: `gamma`, the largest first, or `method`, in the order of the records.
        compared: Frame of `comparison_table`; without it nothing is bold.
    """
    aurocs = sorted(name for name in records if name.startswith("auroc_"))
    metrics = METRICS | {name: (f"AUROC % {name.removeprefix('auroc_')}", percent, name) for name in aurocs}
    better, rows, numbers = better_cells(compared), [], []
    for (dataset, model), group in records.groupby(["dataset", "model"], sort=False):
        cells = group.groupby(by, sort=False)
        means = {name: cells[name].mean() for name in metrics}
        own_rows = []
        for value, cell in sorted(cells, reverse=True) if by == "gamma" else cells:
            bold = {
                name
                for name, (_, _, metric) in metrics.items()
                if (dataset, model, cell["method"].iloc[0], metric) in better
                and not (name in aurocs and means[name][value] < 0.5)
            }
            shown = [cell_of(cell[name], form, name in bold) for name, (_, form, _) in metrics.items()]
            named = f"{value:g}" if by == "gamma" else value
            own_rows.append((named, str(len(cell)), *shown))
            numbers.append(
                {
                    **{"dataset": dataset, "model": model, by: value, "n": len(cell)},
                    **{f"{name}_mean": means[name][value] for name in metrics},
                    **{f"{name}_std": cell[name].std() for name in metrics},
                }
            )
        rows += named_rows((display_name(dataset), model), own_rows)
    ood = ", ".join(display_name(name.removeprefix("auroc_")) for name in aurocs)
    against = f"; AUROC by maximum softmax probability against {ood}" if aurocs else ""
    table = Table(
        "calibration",
        "Calibration of the last epoch's networks on the evaluation split: their accuracy, ECE with "
        f"{BINS} bins of equal width ({CONVENTION}'s convention), NLL in nats, Brier score as the sum over "
        f"classes{against}. n: trained networks per row.{bold_note(compared)}",
        ("network", {"gamma": "γ"}.get(by, by), "n", *(heading for heading, _, _ in metrics.values())),
        tuple(rows),
        reversed_note(pd.DataFrame(numbers)[[f"{name}_mean" for name in aurocs]]),
    )
    return table, pd.DataFrame(numbers)
