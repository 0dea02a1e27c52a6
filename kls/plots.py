"""Figures. matplotlib is imported where one is drawn."""

import numpy as np

from kls.calibration.measures import area_under_risk_coverage, risk_coverage
from kls.calibration.reliability import reliability
from kls.calibration.samples import per_sample
from kls.ood.measures import auroc, roc


def accuracy_against_gamma(curves):
    """Draws accuracy against gamma, one panel per data set.

    Args:
        curves: `{panel title: {curve name: (gammas, accuracies, standard deviations)}}`, in percent; a standard
            deviation of 0 draws no bar. One panel at least, with one or two curves; the second is dashed.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> figure = accuracy_against_gamma({"digits": {"measured (n=1)": ([0.9, 1.0], [97.8, 97.5], [0, 0])}})
    >>> len(figure.axes)
    1
    """
    from matplotlib.figure import Figure

    columns = min(len(curves), 4)
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4 * columns, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for (title, named), panel in zip(curves.items(), panels, strict=False):
        for style, (name, (gammas, accuracies, deviations)) in zip(
            ("o-", "s--")[: len(named)], named.items(), strict=True
        ):
            panel.errorbar(
                gammas, accuracies, yerr=deviations if any(deviations) else None, fmt=style, capsize=3, label=name
            )
        panel.set(title=title, xlabel="gamma (probability of the true class)", ylabel="best accuracy, %")
        panel.title.set_fontsize("medium")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    for panel in list(panels):
        panel.set_visible(False)
    return figure


def reliability_diagram(y_true, probabilities, bins=15, from_logits=False, convention="guo", title="Reliability"):
    """Draws a reliability diagram: accuracy against confidence, the gap, the ECE, and how often each confidence occurs.

    Bars of a bin stand at its accuracy, the hatched part is the gap to its mean confidence (Guo et al. 2017, figure 1).
    Below, the histogram of confidences with the accuracy and the mean confidence of all samples.

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
    from matplotlib.figure import Figure

    samples = per_sample(y_true, probabilities, from_logits)
    weights = np.ones(len(samples.correct))
    found = reliability(samples.confidence, samples.correct, weights, bins, convention=convention)
    filled = found.weight > 0
    bar = {"x": np.flatnonzero(filled) / bins, "width": 1 / bins, "align": "edge"}

    figure = Figure(figsize=(4.2, 5.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.bar(**bar, height=found.accuracy[filled], color="tab:blue", edgecolor="white", label="accuracy")
    above.bar(
        **bar,
        height=-found.gap[filled],
        bottom=found.accuracy[filled],
        color="none",
        edgecolor="tab:red",
        hatch="///",
        label="gap",
    )
    above.plot([0, 1], [0, 1], "--", color="0.4", linewidth=1)
    above.text(
        0.97,
        0.05,
        f"ECE {100 * found.error():.2f} %\n{bins} bins, n = {len(samples.correct):,}",
        ha="right",
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "0.8"},
    )
    above.set(title=title, ylabel="accuracy", xlim=(0, max(1, len(filled) / bins)), ylim=(0, 1))
    above.legend(loc="upper left", fontsize="small")
    below.bar(**bar, height=100 * found.share[filled], color="0.6", edgecolor="white")
    below.axvline(samples.correct.mean(), color="tab:blue", linewidth=1.5, label="accuracy")
    below.axvline(samples.confidence.mean(dtype=np.float64), color="tab:red", linestyle="--", label="mean confidence")
    below.set(xlabel="confidence", ylabel="samples, %")
    below.legend(loc="upper center", bbox_to_anchor=(0.5, -0.45), ncols=2, frameon=False, fontsize="small")
    return figure


def score_histograms(familiar, unfamiliar, xlabel="maximum softmax probability", bins=50):
    """Draws how scores are distributed on familiar against unfamiliar data, one panel per unfamiliar data set.

    Args:
        familiar: Scores of familiar samples, shape `(N,)`.
        unfamiliar: `{name: scores}`, one at least.
        xlabel: What the scores are.
        bins: Number of bins, over the range of a panel's finite scores.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> len(score_histograms([0.9, 0.8], {"noise": [0.3, 0.4]}).axes)
    1
    """
    from matplotlib.figure import Figure

    familiar = np.asarray(familiar, np.float64)
    figure = Figure(figsize=(4 * len(unfamiliar), 3.2), layout="constrained")
    panels = figure.subplots(1, len(unfamiliar), squeeze=False).flat
    for panel, (name, scores) in zip(panels, unfamiliar.items(), strict=True):
        scores = np.asarray(scores, np.float64)
        edges = _histogram_edges(np.concatenate([familiar, scores]), bins)
        for color, label, values in (("tab:blue", "familiar", familiar), ("tab:orange", name, scores)):
            infinite = np.isinf(values).sum()
            size = f"n = {len(values):,}" + (f", {infinite:,} infinite not shown" if infinite else "")
            shares = np.full(len(values), 100 / len(values))
            panel.hist(values, edges, weights=shares, alpha=0.6, color=color, label=f"{label} ({size})")
        panel.set(xlabel=xlabel, ylabel="samples, %")
        panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, fontsize="small")
    return figure


def _histogram_edges(scores, bins):
    """Returns edges over the finite scores, a little apart where these are all but equal."""
    finite = scores[np.isfinite(scores)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    margin = 1e-6 * max(abs(low), abs(high), 1e-6)
    if high - low < margin:
        low, high = low - margin, high + margin
    return np.linspace(low, high, bins + 1)


def roc_curves(familiar, unfamiliar, title="ROC"):
    """Draws receiver operating characteristics, familiar samples positive, with the AUROC in the legend.

    Args:
        familiar: Scores of familiar samples, shape `(N,)`.
        unfamiliar: `{name: scores}`.
        title: Title of the figure.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> len(roc_curves([0.9, 0.8], {"noise": [0.3, 0.4]}).axes[0].lines)
    2
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    panel = figure.subplots()
    for name, scores in unfamiliar.items():
        panel.plot(*roc(familiar, scores), label=f"{name}: AUROC {100 * auroc(familiar, scores):.2f} %")
    panel.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
    panel.set(title=title, xlabel="unfamiliar taken for familiar", ylabel="familiar kept", aspect="equal")
    panel.grid(alpha=0.3)
    panel.legend(loc="lower right", fontsize="small")
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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 3.4), layout="constrained")
    panel = figure.subplots()
    for name, predictions in probabilities.items():
        coverage, risk = risk_coverage(y_true, predictions, from_logits)
        area = area_under_risk_coverage(y_true, predictions, from_logits)
        marker = "o" if len(coverage) == 1 else None
        panel.step(100 * coverage, 100 * risk, where="post", marker=marker, label=f"{name}: AURC {100 * area:.3f} %")
    panel.set(title="Risk-coverage", xlabel="coverage, %", ylabel="risk (error among answered), %", xlim=(0, 101))
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    return figure
