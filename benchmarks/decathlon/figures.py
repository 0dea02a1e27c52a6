"""The figure of the study: what each gamma changes, against gamma = 1."""

from kls.study.report.figures import LOOKS, draw_over_gamma
from kls.study.report.tables import display_name

COLUMNS = 3
WIDTH, HEIGHT = 7.2, 2.6  # inches, of the figure and of a panel


def differences_against_gamma(numbers, published):
    """Draws the differences from gamma = 1 with their confidence intervals, one panel per metric.

    Args:
        numbers: Frame of `kls.study.report.comparisons.comparison_table`, with a column `gamma`.
        published: `{(dataset, model): {gamma: the paper's difference in accuracy, as a fraction}}`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    numbers = numbers[numbers["metric"] != "brier"]  # which goes with the NLL
    metrics = list(dict.fromkeys(numbers["metric"]))
    rows = -(-len(metrics) // COLUMNS)
    columns = -(-len(metrics) // rows)
    groups = list(numbers.groupby(["dataset", "model"], sort=False))
    height = HEIGHT * rows + 0.5
    figure = Figure(figsize=(WIDTH, height * len(groups) + 0.6), layout="constrained")
    *blocks, below = figure.subfigures(
        len(groups) + 1, 1, height_ratios=[height] * len(groups) + [0.6], squeeze=False
    ).flat
    for ((dataset, model), group), block in zip(groups, blocks, strict=True):
        block.suptitle(f"{display_name(dataset)}, {model}, {_title(group['n'].min())}", fontsize="medium")
        panels = block.subplots(rows, columns, squeeze=False).ravel()
        cells = dict(list(group.groupby("metric")))
        for metric, panel in zip(metrics, panels, strict=False):
            if metric in cells:
                theirs = published.get((dataset, model), {}) if metric == "accuracy" else {}
                draw_over_gamma(panel, metric, cells[metric], "γ = 1", theirs)
        for panel in panels:
            panel.set_visible(panel.has_data())
    below.legend(*_legend(numbers, published), loc="center", ncols=4, frameon=False, fontsize="small")
    return figure


def _title(n):
    alone = ", for new images alone" if n == 1 else ""
    return f"n = {n}\ndifferences from γ = 1 with 95 % confidence intervals{alone}"


def _legend(numbers, published):
    """Returns the handles and the labels of what the figure has."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    words = set(numbers["word"])
    found = {
        word: Line2D([], [], color=color, marker=marker, markersize=5)
        for word, (color, marker) in LOOKS.items()
        if word in words
    }
    found["too little to matter"] = Patch(color="tab:green", alpha=0.2)
    if published:
        found["published (best epoch)"] = Line2D([], [], color="tab:orange", linestyle="--", marker="x", linewidth=1)
    return list(found.values()), list(found)
