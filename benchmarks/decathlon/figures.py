"""The figure of the study: what each gamma changes, against gamma = 1."""

from kls.study.report.comparisons import heading_of
from kls.study.report.tables import display_name
from kls.study.statistics import BETTER, METRICS, SAME, UNKNOWN, WORSE

LOOKS = {BETTER: ("tab:blue", "^"), WORSE: ("tab:red", "v"), SAME: ("tab:green", "s"), UNKNOWN: ("0.35", "o")}
COLUMNS = 3
WIDTH, HEIGHT = 7.2, 2.6  # inches, of the figure and of a panel
LEAST = 4  # margins that an axis reaches to either side of zero at least


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
                _draw(panel, metric, cells[metric], theirs)
        for panel in panels:
            panel.set_visible(panel.has_data())
    below.legend(*_legend(numbers, published), loc="center", ncols=4, frameon=False, fontsize="small")
    return figure


def _title(n):
    alone = ", for new images alone" if n == 1 else ""
    return f"n = {n}\ndifferences from γ = 1 with 95 % confidence intervals{alone}"


def _draw(panel, metric, cells, published):
    """Draws the differences of a metric, and the paper's."""
    of, margin = METRICS[metric.partition("_")[0]], cells["margin"].iloc[0]
    scale = of.scale
    panel.axhspan(-scale * margin, scale * margin, color="tab:green", alpha=0.2, linewidth=0)
    panel.axhline(0, color="black", linewidth=0.8)
    for word, found in cells.groupby("word", sort=False):
        color, marker = LOOKS[word]
        ends = scale * found["difference"] - scale * found["low"], scale * found["high"] - scale * found["difference"]
        panel.errorbar(
            found["gamma"], scale * found["difference"], ends, fmt=marker, color=color, capsize=3, markersize=5
        )
    gammas = sorted(published)
    if gammas:
        panel.plot(gammas, [scale * published[gamma] for gamma in gammas], "x--", color="tab:orange", linewidth=1)
    ends = [*cells["low"], *cells["high"], *published.values(), -LEAST * margin, LEAST * margin]
    pad = 0.06 * (max(ends) - min(ends))
    panel.set_ylim(scale * (min(ends) - pad), scale * (max(ends) + pad))
    least = min([*cells["gamma"], *gammas])
    aside = max(0.05, 0.12 * (1 - least))
    panel.set_xlim(least - aside, 1 + aside)
    panel.locator_params(axis="x", nbins=4)
    unit = {"points": "%"}.get(of.unit, of.unit)
    panel.set_title(f"{heading_of(metric)}\n{of.shown(cells['baseline'].iloc[0])} {unit} at γ = 1", fontsize="small")
    better = "larger" if of.larger_is_better else "smaller"
    panel.set_xlabel("γ", fontsize="small")
    panel.set_ylabel(f"{of.unit} ({better} is better)", fontsize="small")
    panel.tick_params(labelsize="small")
    panel.grid(alpha=0.3)


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
