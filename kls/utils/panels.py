"""What figures share: a grid of panels, the edges of histograms, the looks of what is named."""

import numpy as np

MARKERS = "os^Dv<>Pphd"  # eleven beside ten colours: 110 different pairs


def grid(count, columns, size, **options):
    """Returns a figure of `count` panels, at most `columns` to a row, each of a size in inches, and its panels."""
    from matplotlib.figure import Figure

    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **options).flat
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels[:count]


def histogram_edges(scores, bins):
    """Returns edges over the finite scores, a little apart where these are all but equal."""
    finite = scores[np.isfinite(scores)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    margin = 1e-6 * max(abs(low), abs(high), 1e-6)
    if high - low < margin:
        low, high = low - margin, high + margin
    return np.linspace(low, high, bins + 1)


def legend_below(panel, distance=0.2, **options):
    """Draws the legend of a panel below it, as far as a share of its height."""
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -distance), frameon=False, fontsize="small", **options)


def styles(panels):
    """Returns `{method: its colour and marker}`, the same in all panels."""
    methods = dict.fromkeys(method for methods in panels.values() for method in methods)
    return {
        method: {"color": f"C{index}", "marker": MARKERS[index % len(MARKERS)]} for index, method in enumerate(methods)
    }
