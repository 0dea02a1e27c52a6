"""Figures 1 and 2 of the paper."""

import numpy as np

from kls.utils.panels import grid, legend_below


def smoothing_curves(panels):
    """Draws accuracy, calibration error and AUROC against the strength of label smoothing.

    One column per ID dataset (Lee & Cheon 2020, figure 1): above, accuracy (left axis) and expected calibration
    error (right axis); below, the AUROC of each OOD dataset. Strengths stand at even distances, whatever their
    values. A red dotted line marks the one with the least calibration error.

    Args:
        panels: `{ID dataset: {"alpha": strengths, "accuracy": curve, "ece": curve, "auroc": {OOD dataset: curve}}}`.
            A curve is `(means, standard deviations)`, in percent; a mean of NaN is left out, a standard deviation of
            0 or NaN draws no bar.

    Returns:
        A `matplotlib.figure.Figure`; its axes are the upper panels, the lower ones, then the right axes of the upper.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * len(panels), 6), layout="constrained")
    above, below = figure.subplots(2, len(panels), squeeze=False)
    others = dict.fromkeys(name for curves in panels.values() for name in curves["auroc"])
    colors = {name: f"C{index}" for index, name in enumerate(others)}
    for (dataset, curves), upper, lower in zip(panels.items(), above, below, strict=True):
        right = upper.twinx()
        _curve(upper, curves["accuracy"], fmt="o-", color="tab:blue")
        errors = _curve(right, curves["ece"], fmt="s--", color="tab:orange")
        for name, curve in curves["auroc"].items():
            _curve(lower, curve, fmt="o-", color=colors[name], label=name)
        upper.set(title=dataset)
        upper.set_ylabel("accuracy, %", color="tab:blue")
        right.set_ylabel("ECE, %", color="tab:orange")
        lower.set(ylabel="AUROC, %")
        legend_below(lower, ncols=2)
        strengths = [f"{alpha:g}" for alpha in curves["alpha"]]
        for panel in (upper, lower):
            panel.set_xticks(range(len(strengths)), strengths)
            panel.set(xlabel="alpha (label smoothing)", xlim=(-0.5, len(strengths) - 0.5))
            panel.grid(alpha=0.3)
            if not np.isnan(errors).all():
                panel.axvline(np.nanargmin(errors), color="red", linestyle=":")
    return figure


def _curve(panel, curve, **options):
    """Draws `(means, standard deviations)` at 0, 1, 2, ..., but for means of NaN; returns the means."""
    means, deviations = np.asarray(curve, float)
    drawn = ~np.isnan(means)
    bars = np.where(deviations > 0, deviations, np.nan)[drawn]
    panel.errorbar(
        np.flatnonzero(drawn), means[drawn], yerr=None if np.isnan(bars).all() else bars, capsize=3, **options
    )
    return means


def teacher_and_student(panels):
    """Draws the AUROC of a teacher beside that of its student, one panel per pair of them.

    As figure 2 of Lee & Cheon 2020: two bars per OOD dataset. The axis, the same in all panels, begins at a
    multiple of ten below the least bar.

    Args:
        panels: `{panel title: {OOD dataset: (AUROC of the teacher, AUROC of the student)}}`, in percent;
            NaN is left out.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.patches import Patch

    arrays = [np.array(list(pairs.values()), float) for pairs in panels.values()]
    colors = {"teacher": "tab:blue", "student": "tab:orange"}
    figure, areas = grid(len(panels), 3, (4.4, 3.4), sharey=True)
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
