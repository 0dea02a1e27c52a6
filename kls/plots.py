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


def smoothing_curves(panels):
    """Draws accuracy, calibration error and AUROC against the strength of label smoothing.

    One column per familiar data set (Lee & Cheon 2020, figure 1): above, accuracy (left axis) and expected calibration
    error (right axis); below, the AUROC of each unfamiliar data set. Strengths stand at even distances, whatever
    their values. A red dotted line marks the one with the least calibration error.

    Args:
        panels: `{familiar data set: {"alpha": strengths, "accuracy": curve, "ece": curve, "auroc": {unfamiliar data
            set: curve}}}`, one familiar data set at least. A curve is `(means, standard deviations)`, in percent and
            as long as `alpha`; a mean of NaN is left out, a standard deviation of 0 or NaN draws no bar.

    Returns:
        A `matplotlib.figure.Figure`; its axes are the upper panels, the lower ones, then the right axes of the upper.

    Example:

    >>> curves = {"alpha": [0, 0.1], "accuracy": ([95.1, 95.3], [0.1, 0.2]), "ece": ([3.9, 2.1], [0, 0])}
    >>> len(smoothing_curves({"cifar10": {**curves, "auroc": {"mnist": ([98.0, 91.0], [0, 0])}}}).axes)
    3
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * len(panels), 6), layout="constrained")
    above, below = figure.subplots(2, len(panels), squeeze=False)
    unfamiliar = dict.fromkeys(name for curves in panels.values() for name in curves["auroc"])
    colors = {name: f"C{index}" for index, name in enumerate(unfamiliar)}
    for (familiar, curves), upper, lower in zip(panels.items(), above, below, strict=True):
        right = upper.twinx()
        _curve(upper, curves["accuracy"], fmt="o-", color="tab:blue")
        _curve(right, curves["ece"], fmt="s--", color="tab:orange")
        for name, curve in curves["auroc"].items():
            _curve(lower, curve, fmt="o-", color=colors[name], label=name)
        upper.set(title=familiar)
        upper.set_ylabel("accuracy, %", color="tab:blue")
        right.set_ylabel("ECE, %", color="tab:orange")
        lower.set(ylabel="AUROC, %")
        lower.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize="small")
        for panel in (upper, lower):
            strengths = [f"{alpha:g}" for alpha in curves["alpha"]]
            panel.set_xticks(range(len(strengths)), strengths)
            panel.set(xlabel="alpha (label smoothing)", xlim=(-0.5, len(strengths) - 0.5))
            panel.grid(alpha=0.3)
            errors = np.asarray(curves["ece"][0], np.float64)
            if not np.isnan(errors).all():
                panel.axvline(np.nanargmin(errors), color="red", linestyle=":")
    return figure


def _curve(panel, curve, **options):
    """Draws `(means, standard deviations)` at 0, 1, 2, ..., but for means of NaN."""
    means, deviations = np.asarray(curve, np.float64)
    drawn = ~np.isnan(means)
    bars = np.where(deviations > 0, deviations, np.nan)[drawn]
    panel.errorbar(
        np.flatnonzero(drawn), means[drawn], yerr=None if np.isnan(bars).all() else bars, capsize=3, **options
    )


def teacher_and_student(panels):
    """Draws the AUROC of a teacher beside that of its student, one panel per pair of them.

    As figure 2 of Lee & Cheon 2020: two bars per unfamiliar data set. The axis, the same in all panels, begins at a
    multiple of ten below the least bar.

    Args:
        panels: `{panel title: {unfamiliar data set: (AUROC of the teacher, AUROC of the student)}}`, in percent, one
            panel at least; NaN is left out.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> len(teacher_and_student({"cifar10": {"mnist": (84.28, 90.95), "lsun": (99.99, 99.94)}}).axes)
    1
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    colors = {"teacher": "tab:blue", "student": "tab:orange"}
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.4 * rows), layout="constrained")
    areas = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    drawn = [value for pairs in panels.values() for pair in pairs.values() for value in pair if not np.isnan(value)]
    bottom = max(0, 10 * ((min(drawn, default=100) - 3) // 10))
    for (title, pairs), panel in zip(panels.items(), areas, strict=False):
        values = np.array(list(pairs.values()), np.float64)
        for column, (who, color) in enumerate(colors.items()):
            found = np.flatnonzero(~np.isnan(values[:, column]))
            places, heights = found + 0.4 * column - 0.2, values[found, column]
            panel.bar(places, heights, width=0.4, color=color, alpha=0.6, edgecolor="white", label=who)
            for x, height in zip(places, heights, strict=True):
                panel.text(x, bottom, f" {height:.2f}", rotation=90, ha="center", va="bottom", fontsize="small")
        panel.set_xticks(range(len(pairs)), list(pairs), rotation=30, ha="right", rotation_mode="anchor")
        panel.set(title=title, ylabel="AUROC, %", xlim=(-0.6, len(pairs) - 0.4), ylim=(bottom, 100))
        panel.title.set_fontsize("medium")
        panel.grid(axis="y", alpha=0.3)
    handles = [Patch(color=color, alpha=0.6, label=who) for who, color in colors.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    for panel in list(areas):
        panel.set_visible(False)
    return figure
