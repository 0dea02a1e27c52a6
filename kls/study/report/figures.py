"""Figures of a study: what each method changes against the baseline, with confidence intervals."""

import json

from kls.pages.figures import svg_of
from kls.pages.page import Figures, File
from kls.study.report.comparisons import heading_of
from kls.study.report.differences import SIGNS
from kls.study.statistics import BETTER, METRICS, SAME, UNKNOWN, WORSE

LOOKS = {BETTER: ("tab:blue", "^"), WORSE: ("tab:red", "v"), SAME: ("tab:green", "s"), UNKNOWN: ("0.35", "o")}
LEAST = 4  # margins that an axis reaches to either side of zero at least
WIDTH, HEIGHT, ROW = 4.0, 3.0, 0.34  # inches


def difference_parts(group):
    """Returns the differences of a `Group` from its baseline as `Figures`, a small one per metric.

    They stand over gamma where the methods differ in nothing else, else each method has a row.
    """
    _, numbers = group.compared
    gammas = _gammas(group)
    figures = []
    for index, (metric, cells) in enumerate(numbers.groupby("metric", sort=False)):
        if gammas:
            cells = cells.assign(gamma=cells["method"].map(gammas))
        draw = _over_gamma if gammas else _in_rows

        def drawn(metric=metric, cells=cells, draw=draw):
            return draw(metric, cells, group.baseline)

        seen = f"Differences of {heading_of(metric)} from {group.baseline}"
        figures.append((seen, svg_of(f"{group.prefix}differences-{index}", drawn)))
    words = [word for word in SIGNS if word in set(numbers["word"])]
    key = tuple((SIGNS[word][0], f"{SIGNS[word][1]} {word}") for word in words)
    n = int(numbers["n"].min())
    alone = ", which are for new images alone" if n == 1 else ""
    caption = (
        f"Differences from {group.baseline} with 95 % confidence intervals{alone}; n = {n} paired "
        f"seed{'s' * (n > 1)}, {group.evaluated}. The green band is too little to matter."
    )
    return Figures(tuple(figures), caption, File.of_frame(f"{group.prefix}comparison", numbers), key)


def _gammas(group):
    """Returns `{method: gamma}` where all methods are one, the baseline's, with different gammas; else nothing."""
    records = [next(iter(seeds.values())) for seeds in group.by_method.values()]
    methods = [record["recipe"]["method"].items() for record in records]
    kinds = {json.dumps([item for item in sorted(method) if item[0] not in ("gamma", "title")]) for method in methods}
    gammas = {record["method"]: record["gamma"] for record in records}
    return gammas if len(kinds) == 1 and len(set(gammas.values())) == len(gammas) else {}


def _over_gamma(metric, cells, baseline):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    draw_over_gamma(figure.subplots(), metric, cells, baseline)
    return figure


def _in_rows(metric, cells, baseline):
    from matplotlib.figure import Figure

    of = METRICS[metric.partition("_")[0]]
    figure = Figure(figsize=(WIDTH, 1.3 + ROW * len(cells)), layout="constrained")
    panel = figure.subplots()
    margin, scale = cells["margin"].iloc[0], of.scale
    panel.axvspan(-scale * margin, scale * margin, color="tab:green", alpha=0.2, linewidth=0)
    panel.axvline(0, color="black", linewidth=0.8)
    for place, (_, row) in enumerate(cells.iterrows()):
        color, marker = LOOKS[row["word"]]
        middle = scale * row["difference"]
        ends = [[middle - scale * row["low"]], [scale * row["high"] - middle]]
        panel.errorbar(middle, place, xerr=ends, fmt=marker, color=color, capsize=3, markersize=5)
    panel.set_yticks(range(len(cells)), [_short(method) for method in cells["method"]])
    panel.set_ylim(len(cells) - 0.4, -0.6)
    panel.set_xlim(*_limits(cells, scale, margin))
    _name(panel, metric, cells, baseline)
    panel.set_xlabel(_axis(of), fontsize="small")
    return figure


def draw_over_gamma(panel, metric, cells, baseline, published=None):
    """Draws the differences of a metric over gamma, with their confidence intervals and what is too little to matter.

    Args:
        panel: A Matplotlib axes.
        metric: Name of the metric, as in `Results.compare`.
        cells: Rows of the frame of `comparison_table`, with a column `gamma`.
        baseline: What people call the baseline.
        published: `{gamma: a paper's difference, as a fraction}` to draw too.
    """
    published = published or {}
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
    panel.set_ylim(*_limits(cells, scale, margin, published.values()))
    least = min([*cells["gamma"], *gammas])
    aside = max(0.05, 0.12 * (1 - least))
    panel.set_xlim(least - aside, 1 + aside)
    panel.locator_params(axis="x", nbins=4)
    _name(panel, metric, cells, baseline)
    panel.set_xlabel("γ", fontsize="small")
    panel.set_ylabel(_axis(of), fontsize="small")


def _limits(cells, scale, margin, others=()):
    """Returns the ends of the axis of differences, of shares no further than a share can differ."""
    ends = [*cells["low"], *cells["high"], *others, -LEAST * margin, LEAST * margin]
    low, high = (max(min(ends), -1), min(max(ends), 1)) if scale == 100 else (min(ends), max(ends))
    pad = 0.06 * (high - low)
    return scale * (low - pad), scale * (high + pad)


def _axis(of):
    better = "larger" if of.larger_is_better else "smaller"
    return f"{of.unit} ({better} is better)".strip()


def _name(panel, metric, cells, baseline):
    of = METRICS[metric.partition("_")[0]]
    unit = {"points": "%"}.get(of.unit, of.unit)
    value = " ".join(filter(None, [of.shown(cells["baseline"].iloc[0]), unit]))
    panel.set_title(f"{heading_of(metric)}\n{value} at {_short(baseline)}", fontsize="small")
    panel.tick_params(labelsize="small")
    panel.grid(alpha=0.3)


def _short(label, most=28):
    """Returns a label that fits beside an axis."""
    label = " ".join(label.split())
    return label if len(label) <= most else f"{label[: most - 1]}…"
