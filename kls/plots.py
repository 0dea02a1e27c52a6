"""Figures. matplotlib is imported where one is drawn."""

from itertools import cycle
from numbers import Real

import numpy as np

from kls.calibration.measures import area_under_risk_coverage, risk_coverage, summarize
from kls.calibration.reliability import check_binning, reliability
from kls.calibration.samples import per_sample
from kls.ood.measures import as_scores, auroc, roc
from kls.per_class import class_scores
from kls.utils.arrays import as_numbers, check_number, check_whole, shown

MARKERS = "os^Dv<>Pphd"  # eleven beside ten colours: 110 different pairs
LINES = ("-", "--", ":", "-.")
KINDS = {"familiar": {"facecolor": "0.85"}, "unfamiliar": {"facecolor": "tab:orange", "hatch": "///"}}


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
    _check_named(curves, "curves", depth=2)
    most = max(map(len, curves.values()))
    if most > 2:
        raise ValueError(f"`curves` must hold one or two curves per panel. Received: {most}")
    figure, panels = _grid(len(curves), 4, (4, 3.2))
    for (title, named), panel in zip(curves.items(), panels, strict=True):
        for style, (name, curve) in zip(("o-", "s--"), named.items(), strict=False):
            gammas, accuracies, deviations = _array(curve, "curves", 3, None)
            bars = deviations if deviations.any() else None
            panel.errorbar(gammas, accuracies, yerr=bars, fmt=style, capsize=3, label=name)
        panel.set(title=title, xlabel="gamma (probability of the true class)", ylabel="best accuracy, %")
        panel.title.set_fontsize("medium")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    return figure


def _grid(count, columns, size, **options):
    """Returns a figure of `count` panels, at most `columns` to a row, each of a size in inches, and its panels."""
    from matplotlib.figure import Figure

    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **options).flat
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels[:count]


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

    figure = Figure(figsize=(4.2, 5.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    samples, share = _reliability_panel(above, y_true, probabilities, bins, from_logits, convention)
    above.set(title=title, ylabel="accuracy")
    above.legend(loc="upper left", fontsize="small")
    filled = np.flatnonzero(share)
    below.bar(filled / bins, 100 * share[filled], width=1 / bins, align="edge", color="0.6", edgecolor="white")
    below.axvline(samples.correct.mean(), color="tab:blue", linewidth=1.5, label="accuracy")
    below.axvline(samples.confidence.mean(dtype=np.float64), color="tab:red", linestyle="--", label="mean confidence")
    below.set(xlabel="confidence", ylabel="samples, %")
    below.legend(loc="upper center", bbox_to_anchor=(0.5, -0.45), ncols=2, frameon=False, fontsize="small")
    return figure


def reliability_diagrams(named, bins=15, from_logits=False, convention="guo"):
    """Draws the reliability diagrams of several methods, with the accuracy and the ECE of each.

    As figures 11 to 14 of the label distribution learning paper: one panel per method, drawn as the upper one of
    `reliability_diagram`.

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
    figure, panels = _grid(len(named), 4, (3.2, 3.2))
    for (method, sample), panel in zip(named.items(), panels, strict=True):
        y_true, probabilities = _parts(sample, "named", "(y_true, probabilities)")
        _reliability_panel(panel, y_true, probabilities, bins, from_logits, convention)
        panel.set(title=method, xlabel="confidence", ylabel="accuracy")
        panel.title.set_fontsize("medium")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _reliability_panel(panel, y_true, probabilities, bins, from_logits, convention):
    """Draws accuracy and gap per bin; returns the `Samples` and each bin's share of them."""
    samples = per_sample(y_true, probabilities, from_logits)
    weights = np.ones(len(samples.correct))
    found = reliability(samples.confidence, samples.correct, weights, bins, convention=convention)
    filled = found.weight > 0
    bar = {"x": np.flatnonzero(filled) / bins, "width": 1 / bins, "align": "edge"}
    panel.bar(**bar, height=found.accuracy[filled], color="tab:blue", edgecolor="white", label="accuracy")
    panel.bar(
        **bar,
        height=-found.gap[filled],
        bottom=found.accuracy[filled],
        color="none",
        edgecolor="tab:red",
        hatch="///",
        label="gap",
    )
    panel.plot([0, 1], [0, 1], "--", color="0.4", linewidth=1)
    panel.text(
        0.97,
        0.05,
        f"accuracy {100 * samples.correct.mean():.2f} %\nECE {100 * found.error():.2f} %\n"
        f"{bins} bins, n = {len(samples.correct):,}",
        ha="right",
        fontsize="small",
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "0.8"},
    )
    panel.set(xlim=(0, max(1, len(filled) / bins)), ylim=(0, 1))
    return samples, found.share


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

    _check_named(unfamiliar, "unfamiliar")
    check_binning(bins, "width", "guo")
    familiar = as_scores(familiar, "familiar")
    figure = Figure(figsize=(4 * len(unfamiliar), 3.2), layout="constrained")
    panels = figure.subplots(1, len(unfamiliar), squeeze=False).flat
    for panel, (name, scores) in zip(panels, unfamiliar.items(), strict=True):
        scores = as_scores(scores, "unfamiliar")
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


def roc_curves(familiar, unfamiliar, title="ROC", points=None):
    """Draws receiver operating characteristics, familiar samples positive, with the AUROC in the legend.

    Args:
        familiar: Scores of familiar samples, shape `(N,)`.
        unfamiliar: `{name: scores}`.
        title: Title of the figure.
        points: `{name: (FPR, TPR)}` of thresholds to mark: which shares, in [0, 1], of the unfamiliar samples are
            taken for familiar and of the familiar ones are kept.

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
    from matplotlib.figure import Figure

    _check_named(unfamiliar, "unfamiliar")
    points = {} if points is None else points
    _check_named(points, "points", least=0)
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    panel = figure.subplots()
    for name, scores in unfamiliar.items():
        panel.plot(*roc(familiar, scores), label=f"{name}: AUROC {100 * auroc(familiar, scores):.2f} %")
    panel.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
    for (name, rates), marker in zip(points.items(), cycle(MARKERS), strict=False):
        if np.shape(rates) != (2,) or not all(isinstance(rate, Real) and 0 <= rate <= 1 for rate in rates):
            raise ValueError(
                f"`points` must hold pairs (FPR, TPR) of rates between 0 and 1. Received: {name!r}: {rates}"
            )
        fpr, tpr = rates
        label = f"{name}\nFPR {100 * fpr:.2f} %, TPR {100 * tpr:.2f} %"
        panel.plot(fpr, tpr, marker, color="black", markerfacecolor="white", markersize=7, label=label)
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

    _check_named(probabilities, "probabilities")
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

    _check_named(panels, "panels", depth=2)
    for curves in panels.values():
        if absent := [name for name in ("alpha", "accuracy", "ece", "auroc") if name not in curves]:
            raise ValueError(f"`panels` must hold {', '.join(absent)}. Received: {', '.join(map(str, curves))}")
        _check_named(curves["auroc"], "panels")
    figure = Figure(figsize=(4.4 * len(panels), 6), layout="constrained")
    above, below = figure.subplots(2, len(panels), squeeze=False)
    unfamiliar = dict.fromkeys(name for curves in panels.values() for name in curves["auroc"])
    colors = {name: f"C{index}" for index, name in enumerate(unfamiliar)}
    for (familiar, curves), upper, lower in zip(panels.items(), above, below, strict=True):
        right = upper.twinx()
        alphas = _array(curves["alpha"], "panels", None)
        _curve(upper, curves["accuracy"], len(alphas), fmt="o-", color="tab:blue")
        errors = _curve(right, curves["ece"], len(alphas), fmt="s--", color="tab:orange")
        for name, curve in curves["auroc"].items():
            _curve(lower, curve, len(alphas), fmt="o-", color=colors[name], label=name)
        upper.set(title=familiar)
        upper.set_ylabel("accuracy, %", color="tab:blue")
        right.set_ylabel("ECE, %", color="tab:orange")
        lower.set(ylabel="AUROC, %")
        lower.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize="small")
        strengths = [f"{alpha:g}" for alpha in alphas]
        for panel in (upper, lower):
            panel.set_xticks(range(len(strengths)), strengths)
            panel.set(xlabel="alpha (label smoothing)", xlim=(-0.5, len(strengths) - 0.5))
            panel.grid(alpha=0.3)
            if not np.isnan(errors).all():
                panel.axvline(np.nanargmin(errors), color="red", linestyle=":")
    return figure


def _curve(panel, curve, count, **options):
    """Draws `(means, standard deviations)` at 0, 1, 2, ..., but for means of NaN; returns the means."""
    means, deviations = _array(curve, "panels", 2, count)
    drawn = ~np.isnan(means)
    bars = np.where(deviations > 0, deviations, np.nan)[drawn]
    panel.errorbar(
        np.flatnonzero(drawn), means[drawn], yerr=None if np.isnan(bars).all() else bars, capsize=3, **options
    )
    return means


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
    from matplotlib.patches import Patch

    _check_named(panels, "panels", depth=2)
    arrays = [_array(list(pairs.values()), "panels", None, 2) for pairs in panels.values()]
    colors = {"teacher": "tab:blue", "student": "tab:orange"}
    figure, areas = _grid(len(panels), 3, (4.4, 3.4), sharey=True)
    least = min(values[~np.isnan(values)].min(initial=100) for values in arrays)
    bottom = max(0, 10 * ((least - 3) // 10))
    for (title, pairs), values, panel in zip(panels.items(), arrays, areas, strict=True):
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
    return figure


def class_confidence(panels, bins=15, from_logits=False):
    """Draws each class's F1 score against its mean confidence, one panel per network.

    As figure 4 of the label distribution learning paper: a point per class and method, at the numbers of
    `kls.per_class.class_scores`, and the accuracy and the ECE of each method in the legend.

    Args:
        panels: `{network: {method: (y_true, probabilities)}}`, one network at least. Labels are class indices of
            shape `(N,)` or `(N, 1)`, or one-hot of shape `(N, K)`; class probabilities, or logits, are of shape
            `(N, K)`.
        bins: Number of bins of equal width of the ECE.
        from_logits: Whether `probabilities` are logits.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> panels = {"resnet18": {"vanilla": ([0, 1], [[0.9, 0.1], [0.4, 0.6]])}}
    >>> class_confidence(panels).axes[0].get_legend().get_texts()[0].get_text()
    'vanilla (100.00 %, 25.00 %)'
    """
    _check_named(panels, "panels", depth=2)
    styles = _styles(panels)
    figure, areas = _grid(len(panels), 3, (4.8, 4.4), sharex=True, sharey=True)
    for (network, methods), panel in zip(panels.items(), areas, strict=True):
        for method, sample in methods.items():
            y_true, probabilities = _parts(sample, "panels", "(y_true, probabilities)")
            f1, confidence = class_scores(y_true, probabilities, from_logits)
            summary = summarize(y_true, probabilities, bins, from_logits)
            label = f"{method} ({100 * summary['accuracy']:.2f} %, {100 * summary['ece']:.2f} %)"
            panel.scatter(confidence, f1, s=16, alpha=0.7, linewidths=0, label=label, **styles[method])
        panel.set(title=network, xlabel="mean confidence in the true class", ylabel="F1 score")
        panel.grid(alpha=0.3)
        panel.legend(
            title="method (accuracy, ECE)",
            title_fontsize="small",
            fontsize="small",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
            ncols=2,
            frameon=False,
        )
    return figure


def _styles(panels):
    """Returns `{method: its colour and marker}`, the same in all panels."""
    methods = dict.fromkeys(method for methods in panels.values() for method in methods)
    return {
        method: {"color": f"C{index}", "marker": MARKERS[index % len(MARKERS)]} for index, method in enumerate(methods)
    }


def accuracy_against_calibration(panels):
    """Draws the calibration error of networks against their accuracy, one panel per data set or teacher.

    As figure 10 of the label distribution learning paper: a point per network and method; the lower right is better.

    Args:
        panels: `{panel title: {method: {network: (accuracy, ECE)}}}`, in percent, one panel at least; NaN is left out.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> panels = {"cifar100": {"vanilla": {"resnet18": (77.83, 8.0)}, "on-ldl+": {"resnet18": (81.76, 3.4)}}}
    >>> len(accuracy_against_calibration(panels).axes[0].collections)
    2
    """
    _check_named(panels, "panels", depth=3)
    styles = _styles(panels)
    figure, areas = _grid(len(panels), 2, (6, 4.6))
    text = {"textcoords": "offset points", "fontsize": "x-small", "color": "0.4", "in_layout": False}
    for (title, methods), panel in zip(panels.items(), areas, strict=True):
        for method, networks in methods.items():
            points = _array(list(networks.values()), "panels", None, 2)
            panel.scatter(*points.T, label=method, **styles[method])
            for network, point in zip(networks, points, strict=True):
                if not np.isnan(point).any():
                    panel.annotate(network, point, (5, 0), **text)
        panel.set(title=title, xlabel="accuracy, %", ylabel="ECE, %")
        panel.margins(0.15, 0.1)
        panel.grid(alpha=0.3)
    handles = {handle.get_label(): handle for panel in areas for handle in panel.collections}
    figure.legend(handles=handles.values(), loc="outside right upper", frameon=False, fontsize="small")
    figure.draw_without_rendering()
    for panel in areas:
        _place(panel.texts)
    return figure


def _place(annotations):
    """Moves each annotation to the side of its point where it covers least."""
    from matplotlib.transforms import Bbox

    points = [annotation.axes.transData.transform(annotation.xy) for annotation in annotations]
    taken = [Bbox([point - 5, point + 5]) for point in points]
    sides = [
        {"position": (5 * x, 5 * y), "ha": ("right", "center", "left")[x + 1], "va": ("top", "center", "bottom")[y + 1]}
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
    ]
    for annotation in annotations:
        covered = []
        for side in sides:
            annotation.set(**side)
            shared = [Bbox.intersection(annotation.get_window_extent(), box) for box in taken]
            covered.append(sum(box.width * box.height for box in shared if box is not None))
        annotation.set(**sides[np.argmin(covered)])
        taken.append(annotation.get_window_extent())


def class_loss_curves(methods, counts=(5, 20)):
    """Draws the loss of the best and of the worst classes over the epochs, and the accuracy.

    As figure 8 of the label distribution learning paper: one panel per number of classes. Solid, the mean loss of the
    classes that a method classifies best at the end; dashed, of those it classifies worst; dotted, on the right axis,
    its accuracy.

    Args:
        methods: `{method: (losses, class accuracies, accuracies)}`, one method at least: the log loss of each class
            after each epoch, shape `(E, K)` with K >= 2; the final accuracy of each class, shape `(K,)`; the accuracy
            after each epoch, in percent, shape `(E,)`.
        counts: Numbers of best and of worst classes, one per panel. Those above K // 2 become K // 2, and equal
            numbers one panel.

    Returns:
        A `matplotlib.figure.Figure`; its axes are the panels, then the right axes of them.

    Example:

    >>> losses = [[0.9, 1.2], [0.2, 0.7]]
    >>> len(class_loss_curves({"vanilla": (losses, [0.95, 0.8], [70.0, 87.5])}, counts=(1,)).axes)
    2
    """
    _check_named(methods, "methods")
    if not isinstance(counts, list | tuple) or not counts:
        raise ValueError(f"`counts` must be a list of one number at least. Received: counts={shown(counts)}")
    for count in counts:
        check_whole(count, "counts", 1)
    found = {method: _losses(parts) for method, parts in methods.items()}
    least = min(len(class_accuracies) for _, class_accuracies, _ in found.values())
    counts = dict.fromkeys(min(count, least // 2) for count in counts)
    figure, panels = _grid(len(counts), 1, (6.4, 3.6))
    for count, panel in zip(counts, panels, strict=True):
        right = panel.twinx()
        for index, (method, (losses, class_accuracies, accuracies)) in enumerate(found.items()):
            epochs = range(1, len(accuracies) + 1)
            order = np.argsort(class_accuracies, kind="stable")
            for name, style, chosen in (("best", "-", order[-count:]), ("worst", "--", order[:count])):
                panel.plot(
                    epochs, losses[:, chosen].mean(axis=1), style, color=f"C{index}", label=f"{method}, {name} {count}"
                )
            right.plot(epochs, accuracies, ":", color=f"C{index}", label=f"{method}, accuracy")
        panel.set(xlabel="epoch", ylabel="log loss")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        right.set_ylabel("accuracy, %")
        panel.legend(
            handles=[*panel.lines[::2], *panel.lines[1::2], *right.lines],
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
            ncols=3,
            frameon=False,
            fontsize="small",
        )
    return figure


def _losses(parts):
    """Returns the arrays of `(losses, class accuracies, accuracies)` of a method."""
    losses, class_accuracies, accuracies = _parts(parts, "methods", "(losses, class accuracies, accuracies)")
    accuracies = _array(accuracies, "methods", None)
    losses = _array(losses, "methods", len(accuracies), None)
    if losses.shape[1] < 2:
        raise ValueError(f"`methods` must hold losses of two classes at least. Received: {losses.shape[1]}")
    return losses, _array(class_accuracies, "methods", losses.shape[1]), accuracies


def penultimate_projection(rows):
    """Draws features of three classes in the plane of their templates, a row per samples and a column per method.

    As figure 7 of the label distribution learning paper, which follows Mueller et al. 2019, "When does label
    smoothing help?".

    Args:
        rows: `{samples: {method: {class: features projected to shape (n, 2)}}}`, one row at least, of the same
            methods each; `kls.projection.project_onto_templates` projects.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> points = {"beaver": [[0.1, 0.2]], "otter": [[0.3, 0.2]], "dolphin": [[0.9, 1.0]]}
    >>> figure = penultimate_projection({"training": {"vanilla": points}, "test": {"vanilla": points}})
    >>> [panel.get_ylabel() for panel in figure.axes]
    ['training', 'test']
    """
    from matplotlib.figure import Figure

    _check_named(rows, "rows", depth=3)
    titles = next(iter(rows.values()))
    if any(methods.keys() != titles.keys() for methods in rows.values()):
        raise ValueError(
            f"`rows` must be of the same methods. Received: {[list(methods) for methods in rows.values()]}"
        )
    figure = Figure(figsize=(2.4 * len(titles) + 1, 2.4 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(titles), squeeze=False)
    for (samples, methods), row in zip(rows.items(), panels, strict=True):
        for method, panel in zip(titles, row, strict=True):
            for name, points in methods[method].items():
                panel.scatter(*_array(points, "rows", None, 2).T, s=6, alpha=0.6, linewidths=0, label=name)
            panel.set(xticks=[], yticks=[])
            panel.set_aspect("equal", adjustable="datalim")
        row[0].set_ylabel(samples, fontsize="small")
        row[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize="small", markerscale=2)
    for method, panel in zip(titles, panels[0], strict=True):
        panel.set_title(method, fontsize="medium")
    return figure


def confidence_histograms(panels, xlabel="maximum softmax probability", bins=50, threshold=None):
    """Draws how scores are distributed in groups of samples, such as correct, wrong and unfamiliar, panel by panel.

    As figure 4 of Song's report on an unfamiliar MNIST digit, one panel per loss. All panels share both axes and the
    bins. Each group is in percent of itself, on a logarithmic axis where the shares span more than two orders of
    magnitude.

    Args:
        panels: `{panel title: {group: scores}}`, one panel at least with one group at least. A group may be empty;
            it is named with n = 0.
        xlabel: What the scores are.
        bins: Number of bins, over the range of all scores.
        threshold: `{panel title: value}` to draw as a dashed line, for any of the panels.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is nothing to draw, a score is not finite, or `threshold` names no panel.

    Example:

    >>> scores = {"correct": [0.99, 0.95], "wrong": [0.6], "unfamiliar": []}
    >>> figure = confidence_histograms({"cross-entropy": scores}, threshold={"cross-entropy": 0.8})
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['correct (n = 2)', 'wrong (n = 1)', 'unfamiliar (n = 0)', 'threshold 0.800']
    """
    _check_named(panels, "panels", depth=2)
    check_binning(bins, "width", "guo")
    threshold = {} if threshold is None else threshold
    _check_named(threshold, "threshold", least=0)
    if not threshold.keys() <= panels.keys():
        raise ValueError(f"`threshold` must name panels among {list(panels)}. Received: {threshold}")
    for value in threshold.values():
        check_number(value, "threshold", "(-inf, inf)")
    scores = [as_scores(values, "panels", least=0) for groups in panels.values() for values in groups.values()]
    for values in scores:
        if not np.isfinite(values).all():
            raise ValueError(f"`panels` must hold finite scores. Received: {values}")
    edges = _histogram_edges(np.concatenate(scores), bins)
    styles = _styles(panels)
    lines = dict(zip(styles, cycle(LINES), strict=False))
    figure, areas = _grid(len(panels), 3, (4, 3.8), sharex=True, sharey=True)
    drawn = []
    for (title, groups), panel in zip(panels.items(), areas, strict=True):
        for group, values in groups.items():
            counts = np.histogram(values, edges)[0]
            shares = np.where(counts, 100 * counts / max(len(values), 1), np.nan)
            drawn.extend(shares[counts > 0])
            color = styles[group]["color"]
            panel.stairs(
                shares,
                edges,
                fill=True,
                facecolor=(color, 0.15),
                edgecolor=color,
                linestyle=lines[group],
                linewidth=1.5,
                label=f"{group} (n = {len(values):,})",
            )
        if title in threshold:
            value = threshold[title]
            panel.axvline(value, color="black", linestyle="--", linewidth=1, label=f"threshold {value:.3f}")
        panel.set(title=title, xlabel=xlabel, ylabel="share of the group, %")
        panel.title.set_fontsize("medium")
        panel.tick_params(labelbottom=True)
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, fontsize="small")
    if drawn and max(drawn) > 100 * min(drawn):
        areas[0].set(yscale="log", ylim=(min(drawn) / 2, 200))
    return figure


def image_rows(rows, columns=None, gap=None, titles=None):
    """Draws rows of images below one another, such as originals, noised and denoised ones.

    As figures 3 and 6 of Song's report.

    Args:
        rows: `{row name: images}`, one row at least, of float images of one shape `(N, H, W, C)`, with 1 or 3
            channels, in [0, 1]; values outside are clipped.
        columns: Titles of the N columns, or `None`.
        gap: Index of the column before which a wider space separates two groups, or `None`.
        titles: Titles of the groups, two with a `gap` and one without, or `None`.

    Returns:
        A `matplotlib.figure.Figure`, of one axes per group.

    Raises:
        ValueError: If the rows are not as above, or another argument does not fit their number of columns.

    Example:

    >>> images = np.linspace(0, 1, 2 * 8 * 8).reshape(2, 8, 8, 1)
    >>> figure = image_rows({"original": images, "denoised": images**2}, columns=["6 (0.41)", "3 (0.99)"])
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['original', 'denoised']
    """
    from matplotlib.figure import Figure

    _check_named(rows, "rows")
    rows = {name: as_numbers(images, "rows") for name, images in rows.items()}
    kinds = {(images.dtype.kind, images.shape) for images in rows.values()}
    kind, shape = kinds.pop() if len(kinds) == 1 else ("", ())
    if kind != "f" or len(shape) != 4 or 0 in shape or shape[-1] not in (1, 3):
        received = {name: f"{images.dtype} {images.shape}" for name, images in rows.items()}
        raise ValueError(
            f"`rows` must hold float images of one shape (N, H, W, C) with 1 or 3 channels. Received: {received}"
        )
    if any(np.isnan(images).any() for images in rows.values()):
        raise ValueError("`rows` must hold images without NaN. Received: some that have it")
    count, height, width, _ = shape
    columns = _titles(columns, "columns", count)
    if gap is not None:
        check_whole(gap, "gap", 1, count - 1)
    groups = [range(count)] if gap is None else [range(gap), range(gap, count)]
    titles = _titles(titles, "titles", len(groups))

    heads = [title.split("\n") for title in columns]
    side = max(0.7, 0.085 * max(len(line) for lines in heads for line in lines))
    head = 0.2 * max(map(len, heads)) + 0.3 * any(titles)
    size = (side * count + 0.1 * max(map(len, rows)) + 0.3 * len(groups), side * height / width * len(rows) + head)
    figure = Figure(figsize=size, layout="compressed")
    figure.get_layout_engine().set(w_pad=0.1)
    panels = figure.subplots(1, len(groups), squeeze=False, width_ratios=[len(group) for group in groups]).flat
    for panel, group, title in zip(panels, groups, titles, strict=True):
        for row, images in enumerate(rows.values()):
            for place, column in enumerate(group):
                extent = (place + 0.03, place + 0.97, row + 0.97, row + 0.03)
                panel.imshow(np.clip(images[column], 0, 1), cmap="gray", vmin=0, vmax=1, extent=extent)
        panel.set(xlim=(0, len(group)), ylim=(len(rows), 0), aspect=height / width)
        panel.set_title(title, fontsize="medium")
        panel.xaxis.tick_top()
        panel.set_xticks(np.arange(len(group)) + 0.5, [columns[column] for column in group], fontsize="small")
        panel.set_yticks([])
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    panels[0].set_yticks(np.arange(len(rows)) + 0.5, list(rows))
    return figure


def _titles(values, name, count):
    """Returns as many titles as there are columns or groups, empty ones for `None`."""
    if values is None:
        return [""] * count
    if not isinstance(values, list | tuple) or len(values) != count:
        raise ValueError(f"`{name}` must be a list of {count} titles. Received: {shown(values)}")
    return list(map(str, values))


def error_by_class(errors, unfamiliar=()):
    """Draws how reconstruction errors are distributed in each class, on a logarithmic axis.

    As figure 7 of Song's report: a box per class from the lower to the upper quartile, with a line at the median and
    whiskers to the outermost errors between the 5th and the 95th percentile.

    Args:
        errors: `{class name: errors}`, one class at least, of finite errors from 0 up; a class may be empty.
        unfamiliar: Names of the classes that are unfamiliar, which are coloured.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If `errors` are not as above, or `unfamiliar` names another class.

    Example:

    >>> panel = error_by_class({"0": [0.04, 0.05], "1": [0.001, 0.002]}, unfamiliar=["0"]).axes[0]
    >>> [text.get_text() for text in panel.get_xticklabels()]
    ['0\\nn = 2', '1\\nn = 2']
    """
    figure, panel, places = _class_figure(errors, unfamiliar)
    values = list(errors.values())
    for kind, of_kind in places.items():
        panel.boxplot(
            [values[place] for place in of_kind],
            positions=of_kind,
            widths=0.6,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            boxprops=KINDS[kind],
            medianprops={"color": "black"},
            manage_ticks=False,
            label=kind,
        )
    panel.set(yscale="log", ylabel="reconstruction error (MSE)")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def largest_by_class(errors, count=200, unfamiliar=()):
    """Draws how many of the largest reconstruction errors over all classes belong to each class.

    As figure 8 of Song's report. A line across each bar marks how many there would be by chance: `count` times the
    share of the class in all samples. Of equal errors those of the class that comes first count as larger.

    Args:
        errors: `{class name: errors}`, one class at least, of finite errors from 0 up; a class may be empty.
        count: How many of the largest errors are counted, at most all.
        unfamiliar: Names of the classes that are unfamiliar, which are coloured.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> panel = largest_by_class({"0": [0.04, 0.05], "1": [0.001, 0.06]}, count=3).axes[0]
    >>> [float(bar.get_height()) for bar in panel.patches]
    [2.0, 1.0]
    """
    figure, panel, places = _class_figure(errors, unfamiliar)
    sizes = np.array([len(values) for values in errors.values()])
    total = sizes.sum()
    check_whole(count, "count", 1, total)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    largest = np.argsort(-np.concatenate(list(errors.values())), kind="stable")[:count]
    found = np.bincount(owners[largest], minlength=len(sizes))
    for kind, of_kind in places.items():
        bars = panel.bar(of_kind, found[of_kind], width=0.6, edgecolor="black", label=kind, **KINDS[kind])
        panel.bar_label(bars, padding=3, fontsize="small", bbox={"facecolor": "white", "linewidth": 0, "pad": 1})
    numbers = np.arange(len(sizes))
    panel.hlines(count * sizes / total, numbers - 0.4, numbers + 0.4, color="black", linewidth=2, label="by chance")
    panel.set(ylabel=f"among the {count:,} largest errors")
    panel.margins(y=0.12)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def _class_figure(errors, unfamiliar):
    """Returns a figure with a tick for each class of checked errors, its panel, and `{kind: places of its classes}`."""
    from matplotlib.figure import Figure

    _check_named(errors, "errors")
    for name, values in errors.items():
        values = as_scores(values, "errors", least=0)
        if not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(f"`errors` must hold finite errors from 0 up. Received: {name!r}: {values}")
    if not isinstance(unfamiliar, list | tuple) or not all(name in list(errors) for name in unfamiliar):
        raise ValueError(
            f"`unfamiliar` must name classes among {list(errors)}, in a list. Received: {shown(unfamiliar)}"
        )
    places = {kind: [] for kind in KINDS}
    for place, name in enumerate(errors):
        places["unfamiliar" if name in unfamiliar else "familiar"].append(place)
    figure = Figure(figsize=(max(4.4, 0.65 * len(errors) + 1), 3.6), layout="constrained")
    panel = figure.subplots()
    ticks = [f"{name}\nn = {len(values):,}" for name, values in errors.items()]
    panel.set_xticks(range(len(errors)), ticks, fontsize="small")
    panel.set(xlabel="class", xlim=(-0.6, len(errors) - 0.4))
    panel.grid(axis="y", alpha=0.3)
    return figure, panel, {kind: of_kind for kind, of_kind in places.items() if of_kind}


def _check_named(values, name, depth=1, least=1):
    """Raises `ValueError` unless these are dictionaries, one within the other to a depth, of `least` entries each."""
    if not isinstance(values, dict) or len(values) < least:
        entries = " of one entry at least" if least else ""
        raise ValueError(f"`{name}` must be a dictionary{entries}. Received: {name}={shown(values)}")
    for inner in values.values() if depth > 1 else ():
        _check_named(inner, name, depth - 1)


def _parts(values, name, parts):
    """Returns a tuple of which `parts` names the parts."""
    if not isinstance(values, list | tuple) or len(values) != len(parts.split(",")):
        raise ValueError(f"`{name}` must hold {parts}. Received: {shown(values)}")
    return values


def _array(values, name, *shape):
    """Returns numbers as float64 of a shape, in which `None` is any length."""
    array = as_numbers(values, name).astype(np.float64)
    if array.ndim != len(shape) or any(
        wanted not in (None, found) for wanted, found in zip(shape, array.shape, strict=True)
    ):
        raise ValueError(f"`{name}` must hold numbers of shape {shape}. Received: shape {array.shape}")
    return array
