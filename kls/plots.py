"""Figures. matplotlib is imported where one is drawn."""


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
