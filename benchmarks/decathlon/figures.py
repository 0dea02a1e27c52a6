"""The figure of the paper: accuracy against gamma."""

import numpy as np

from kls.utils.panels import grid


def accuracy_against_gamma(curves):
    """Draws accuracy against gamma, one panel per data set.

    Args:
        curves: `{panel title: {curve name: (gammas, accuracies, standard deviations)}}`, in percent; a standard
            deviation of 0 draws no bar. A panel has one or two curves; the second is dashed.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, panels = grid(len(curves), 4, (4, 3.2))
    for (title, named), panel in zip(curves.items(), panels, strict=True):
        for style, (name, (gammas, accuracies, deviations)) in zip(("o-", "s--"), named.items(), strict=False):
            bars = deviations if np.any(deviations) else None
            panel.errorbar(gammas, accuracies, yerr=bars, fmt=style, capsize=3, label=name)
        panel.set(title=title, xlabel="gamma (probability of the true class)", ylabel="best accuracy, %")
        panel.title.set_fontsize("medium")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    return figure
