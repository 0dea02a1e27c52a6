"""Figures. matplotlib is imported where one is drawn."""

from itertools import cycle
from numbers import Real

import numpy as np

from kls.calibration.metrics import area_under_risk_coverage, risk_coverage
from kls.calibration.reliability import check_binning, reliability
from kls.calibration.samples import per_sample
from kls.ood.metrics import as_scores, auroc, roc
from kls.utils.arrays import shown
from kls.utils.panels import MARKERS, grid, histogram_edges, legend_below
from kls.utils.proportions import clopper_pearson

LEVEL = 0.95
ABOVE_TEXT = 32  # points, of a title above two lines of text


def reliability_diagram(y_true, probabilities, bins=15, from_logits=False, convention="guo", title="Reliability"):
    """Draws a reliability diagram: accuracy against confidence, the gap, the ECE, and how often each confidence occurs.

    Bars of a bin stand at its accuracy, with its 95 % confidence interval (Clopper & Pearson 1934); the hatched part is
    the gap to its mean confidence (Guo et al. 2017, figure 1). Below, the histogram of confidences with the accuracy
    and the mean confidence of all samples.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        bins: Number of bins of equal width.
        from_logits: Whether `probabilities` are logits.
        convention: Where bins are closed, as in `kls.calibration.expected_calibration_error`.
        title: Title of the figure.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> len(reliability_diagram([0, 1], [[0.9, 0.1], [0.4, 0.6]], bins=10).axes)
    2
    """
    figure, (above, below) = grid(2, 1, (4.2, 2.7), sharex=True, height_ratios=(3, 1))
    samples, share = _reliability_panel(above, y_true, probabilities, bins, from_logits, convention)
    above.set_title(title, pad=ABOVE_TEXT)
    above.set_ylabel("accuracy")
    filled = np.flatnonzero(share)
    below.bar(filled / bins, 100 * share[filled], width=1 / bins, align="edge", color="0.6", edgecolor="white")
    below.axvline(samples.correct.mean(), color="tab:blue", linewidth=1.5, label="accuracy")
    below.axvline(samples.confidence.mean(dtype=np.float64), color="tab:red", linestyle="--", label="mean confidence")
    below.set(xlabel="confidence", ylabel="samples, %")
    handles = [*above.get_legend_handles_labels()[0], *below.lines]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return figure


def reliability_diagrams(named, bins=15, from_logits=False, convention="guo"):
    """Draws the reliability diagrams of several methods, with the accuracy and the ECE of each.

    One panel per method, drawn as the upper one of `reliability_diagram`.

    Args:
        named: `{method: (y_true, probabilities)}`, one method at least. Labels are class indices of shape `(N,)` or
            `(N, 1)`, or one-hot of shape `(N, K)`; class probabilities, or logits, are of shape `(N, K)`.
        bins: Number of bins of equal width.
        from_logits: Whether `probabilities` are logits.
        convention: Where bins are closed, as in `kls.calibration.expected_calibration_error`.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> sample = ([0, 1], [[0.9, 0.1], [0.4, 0.6]])
    >>> len(reliability_diagrams({"vanilla": sample, "smoothed": sample}).axes)
    2
    """
    _check_named(named, "named")
    figure, panels = grid(len(named), 4, (3.2, 3.2))
    for (method, sample), panel in zip(named.items(), panels, strict=True):
        if not isinstance(sample, list | tuple) or len(sample) != 2:
            raise ValueError(f"`named` must hold (y_true, probabilities). Received: {shown(sample)}")
        _reliability_panel(panel, *sample, bins, from_logits, convention)
        panel.set(xlabel="confidence", ylabel="accuracy")
        panel.set_title(method, pad=ABOVE_TEXT, fontsize="medium")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


def _reliability_panel(panel, y_true, probabilities, bins, from_logits, convention):
    """Draws accuracy and gap per bin; returns the `Samples` and each bin's share of them."""
    samples = per_sample(y_true, probabilities, from_logits)
    weights = np.ones(len(samples.correct))
    found = reliability(samples.confidence, samples.correct, weights, bins, convention=convention)
    filled = found.weight > 0
    bar = {"x": np.flatnonzero(filled) / bins, "width": 1 / bins, "align": "edge"}
    panel.bar(**bar, height=found.accuracy[filled], color="#9ec9e8", edgecolor="white", label="accuracy")
    panel.bar(
        **bar,
        height=-found.gap[filled],
        bottom=found.accuracy[filled],
        color="none",
        edgecolor=("tab:red", 0.7),
        hatch="//",
        label="gap",
    )
    ends = [
        clopper_pearson(round(accuracy * weight), round(weight), LEVEL)
        for accuracy, weight in zip(found.accuracy[filled], found.weight[filled], strict=True)
    ]
    centres = (np.flatnonzero(filled) + 0.5) / bins
    panel.vlines(
        centres, *np.transpose(ends), color="black", linewidth=1.3, label=f"its {100 * LEVEL:g} % confidence interval"
    )
    panel.plot([0, 1], [0, 1], "--", color="0.4", linewidth=1)
    panel.text(
        *(0.5, 1.03),
        f"accuracy {100 * samples.correct.mean():.2f} %, ECE {100 * found.error():.2f} %\n"
        f"{bins} bins, n = {len(samples.correct):,}",
        ha="center",
        fontsize="small",
        transform=panel.transAxes,
    )
    panel.set(xlim=(0, max(1, len(filled) / bins)), ylim=(0, 1))
    return samples, found.share


def score_histograms(id_scores, ood_scores, xlabel="maximum softmax probability", bins=50):
    """Draws how scores are distributed on ID against OOD data, one panel per OOD dataset.

    Args:
        id_scores: Scores of ID samples, shape `(N,)`.
        ood_scores: `{name: scores}`, one at least.
        xlabel: What the scores are.
        bins: Number of bins, over the range of a panel's finite scores.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> len(score_histograms([0.9, 0.8], {"noise": [0.3, 0.4]}).axes)
    1
    """
    _check_named(ood_scores, "ood_scores")
    check_binning(bins, "width", "guo")
    id_scores = as_scores(id_scores, "id_scores")
    figure, panels = grid(len(ood_scores), len(ood_scores), (4, 3.2))
    for panel, (name, scores) in zip(panels, ood_scores.items(), strict=True):
        scores = as_scores(scores, "ood_scores")
        edges = histogram_edges(np.concatenate([id_scores, scores]), bins)
        for color, label, values in (("tab:blue", "ID", id_scores), ("tab:orange", name, scores)):
            infinite = np.isinf(values).sum()
            size = f"n = {len(values):,}" + (f", {infinite:,} infinite not shown" if infinite else "")
            shares = np.full(len(values), 100 / len(values))
            panel.hist(values, edges, weights=shares, alpha=0.6, color=color, label=f"{label} ({size})")
        panel.set(xlabel=xlabel, ylabel="samples, %")
        panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, fontsize="small")
    return figure


def roc_curves(id_scores, ood_scores, title="ROC", points=None):
    """Draws receiver operating characteristics, ID samples positive, with the AUROC in the legend.

    Args:
        id_scores: Scores of ID samples, shape `(N,)`.
        ood_scores: `{name: scores}`.
        title: Title of the figure.
        points: `{name: (FPR, TPR)}` of thresholds to mark: which shares, in [0, 1], of the OOD samples are taken for ID
            and of the ID samples are kept.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If one of `points` is no pair of rates.

    Example:

    >>> len(roc_curves([0.9, 0.8], {"noise": [0.3, 0.4]}).axes[0].lines)
    2
    >>> figure = roc_curves([0.9, 0.8], {"noise": [0.3, 0.4]}, points={"threshold 0.85": (0.0, 0.5)})
    >>> figure.axes[0].get_legend().get_texts()[-1].get_text()
    'threshold 0.85\\nFPR 0.00 %, TPR 50.00 %'
    """
    _check_named(ood_scores, "ood_scores")
    points = {} if points is None else points
    _check_named(points, "points", least=0)
    figure, (panel,) = grid(1, 1, (4.4, 4.8))
    for name, scores in ood_scores.items():
        panel.plot(*roc(id_scores, scores), label=f"{name}: AUROC {100 * auroc(id_scores, scores):.2f} %")
    panel.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
    for (name, rates), marker in zip(points.items(), cycle(MARKERS), strict=False):
        if np.shape(rates) != (2,) or not all(isinstance(rate, Real) and 0 <= rate <= 1 for rate in rates):
            raise ValueError(
                f"`points` must hold pairs (FPR, TPR) of rates between 0 and 1. Received: {name!r}: {rates}"
            )
        fpr, tpr = rates
        label = f"{name}\nFPR {100 * fpr:.2f} %, TPR {100 * tpr:.2f} %"
        panel.plot(fpr, tpr, marker, color="black", markerfacecolor="white", markersize=7, label=label)
    panel.set(title=title, xlabel="OOD taken for ID", ylabel="ID kept", aspect="equal")
    panel.grid(alpha=0.3)
    legend_below(panel, 0.14)
    return figure


def risk_coverage_curves(y_true, probabilities, from_logits=False):
    """Draws the error rate among the most confident samples against how many of them are answered.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: `{name: class probabilities of shape (N, K)}`, or logits.
        from_logits: Whether `probabilities` are logits.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> len(risk_coverage_curves([0, 1], {"model": [[0.9, 0.1], [0.8, 0.2]]}).axes[0].lines)
    1
    """
    _check_named(probabilities, "probabilities")
    figure, (panel,) = grid(1, 1, (4.4, 3.4))
    for name, predictions in probabilities.items():
        coverage, risk = risk_coverage(y_true, predictions, from_logits)
        area = area_under_risk_coverage(y_true, predictions, from_logits)
        marker = "o" if len(coverage) == 1 else None
        panel.step(100 * coverage, 100 * risk, where="post", marker=marker, label=f"{name}: AURC {100 * area:.3f} %")
    panel.set(title="Risk-coverage", xlabel="coverage, %", ylabel="risk (error among answered), %", xlim=(0, 101))
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    legend_below(panel)
    return figure


def _check_named(values, name, least=1):
    """Raises `ValueError` unless this is a dictionary of `least` entries."""
    if not isinstance(values, dict) or len(values) < least:
        entries = " of one entry at least" if least else ""
        raise ValueError(f"`{name}` must be a dictionary{entries}. Received: {name}={shown(values)}")
