"""Reliability diagrams and curves as parts of a page, each with the numbers behind it."""

import numpy as np

from kls import plots
from kls.calibration.metrics import risk_coverage
from kls.calibration.reliability import reliability
from kls.calibration.samples import per_sample
from kls.ood.metrics import roc
from kls.pages.figures import svg_of
from kls.pages.page import Figures, File


def reliability_diagrams(name, networks, bins, convention, caption):
    """Returns a reliability diagram per network, as `Figures`.

    Args:
        name: Name of the file, and of the figures.
        networks: `{title: (labels, logits)}`.
        bins: Number of bins of equal width.
        convention: Where bins are closed.
        caption: What they show.
    """
    import pandas as pd

    figures, frames = [], []
    for index, (title, (labels, logits)) in enumerate(networks.items()):

        def draw(labels=labels, logits=logits, title=title):
            return plots.reliability_diagram(labels, logits, bins, True, convention, title)

        figures.append((f"Reliability diagram, {title}", svg_of(f"{name}-{index}", draw)))
        samples = per_sample(labels, logits, from_logits=True)
        found = reliability(
            samples.confidence, samples.correct, np.ones(len(samples.correct)), bins, convention=convention
        )
        places = np.arange(len(found.weight))
        columns = {"network": title, "low": places / bins, "high": (places + 1) / bins, "n": found.weight.astype(int)}
        frames.append(pd.DataFrame({**columns, "accuracy": found.accuracy, "confidence": found.confidence}))
    return Figures(tuple(figures), caption, File.of_frame(name, pd.concat(frames)))


def roc_curves(name, networks, caption):
    """Returns the receiver operating characteristics of each network, as `Figures`.

    Args:
        name: Name of the file, and of the figures.
        networks: `{title: (ID scores, {OOD dataset: scores})}`.
        caption: What they show.
    """
    import pandas as pd

    figures, frames = [], []
    for index, (title, (id_scores, ood_scores)) in enumerate(networks.items()):

        def draw(id_scores=id_scores, ood_scores=ood_scores, title=title):
            return plots.roc_curves(id_scores, ood_scores, title)

        figures.append((f"ROC, {title}", svg_of(f"{name}-{index}", draw)))
        for ood, scores in ood_scores.items():
            fpr, tpr = _corners(*roc(id_scores, scores))
            frames.append(pd.DataFrame({"network": title, "ood": ood, "fpr": fpr, "tpr": tpr}))
    return Figures(tuple(figures), caption, File.of_frame(name, pd.concat(frames)))


def _corners(x, y):
    """Returns the points of a curve without those on a straight line between their neighbours."""
    dx, dy = np.diff(x), np.diff(y)
    kept = np.concatenate([[True], dx[1:] * dy[:-1] != dx[:-1] * dy[1:], [True]])
    return x[kept], y[kept]


def risk_coverage_curves(name, labels, networks, caption):
    """Returns the risk-coverage curves of networks in one figure, as `Figures`.

    Args:
        name: Name of the file, and of the figure.
        labels: Class indices.
        networks: `{title: logits}`.
        caption: What they show.
    """
    import pandas as pd

    frames = []
    for title, logits in networks.items():
        coverage, risk = risk_coverage(labels, logits, from_logits=True)
        frames.append(pd.DataFrame({"network": title, "coverage": coverage, "risk": risk}))
    svg = svg_of(name, lambda: plots.risk_coverage_curves(labels, networks, from_logits=True))
    return Figures((("Risk-coverage curves", svg),), caption, File.of_frame(name, pd.concat(frames)))
