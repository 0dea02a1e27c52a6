"""Bins: how often a classifier is right where it is how confident."""

import numbers
from dataclasses import dataclass

import numpy as np

CONVENTIONS = ("guo", "netcal", "torchmetrics")
BINNINGS = ("width", "mass")


@dataclass(frozen=True)
class Reliability:
    """Sums over bins, each array of shape `(..., B)`: the data of a reliability diagram.

    Attributes:
        weight: Sum of the sample weights.
        confidence: Mean confidence, 0 in an empty bin.
        accuracy: Mean of what was predicted (whether the class is right), 0 in an empty bin.
    """

    weight: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def gap(self):
        """Accuracy minus confidence, 0 in an empty bin."""
        return self.accuracy - self.confidence

    @property
    def share(self):
        """The bin's share of all samples."""
        return self.weight / self.weight.sum(axis=-1, keepdims=True)

    def error(self, norm=1):
        """Returns the calibration error: L1 (`norm=1`), root mean square (2) or largest gap (`"max"`)."""
        if norm == 1:
            return (self.share * np.abs(self.gap)).sum(axis=-1)
        if norm == 2:
            return np.sqrt((self.share * self.gap**2).sum(axis=-1))
        if norm == "max":
            return np.abs(self.gap).max(axis=-1)
        raise ValueError(f"`norm` must be 1, 2 or 'max'. Received: norm={norm!r}")


def reliability(values, outcomes, weights, bins=15, binning="width", convention="guo"):
    """Returns the `Reliability` of predicted values in [0, 1].

    Args:
        values: Predicted probabilities of shape `(N,)`.
        outcomes: Whether they came true, shape `(N,)`.
        weights: Sample weights of shape `(N,)`, or `(R, N)` for R results at once.
        bins: Number of bins B.
        binning: `"width"` for bins of equal width, `"mass"` for bins of equal weight.
        convention: Where equal-width bins are closed; see `width_bins`.
    """
    check_binning(bins, binning, convention)
    if binning == "width":
        index, bins = width_bins(values, bins, convention)
    else:
        index = mass_bins(values, weights, bins)
    weight = _bin_sums(index, weights, bins)
    with np.errstate(invalid="ignore"):
        means = (_bin_sums(index, weights * x, bins) / weight for x in (values.astype(np.float64), outcomes))
        return Reliability(weight, *(np.where(weight > 0, mean, 0.0) for mean in means))


def width_bins(values, bins, convention="guo"):
    """Returns the index of the equal-width bin of each value, and the number of bins.

    `"guo"`: (lo, hi], a value of 0 in the first bin (Guo et al. 2017's code). `"netcal"` (1.4): [lo, hi), a value
    of 1 in the last bin. `"torchmetrics"` (1.9): [lo, hi), a value of exactly 1 in a bin of its own beyond the last.
    The edges are j/B, rounded to the precision of the values, so that a float32 0.2 lies on the edge 1/5; the packages
    round some of their edges otherwise, which only tells on values within rounding of an edge.
    """
    edges = width_edges(bins, values.dtype)[1:-1]
    if convention == "guo":
        return np.searchsorted(edges, values, side="left"), bins
    index = np.searchsorted(edges, values, side="right")
    if convention == "netcal":
        return index, bins
    return index + (values >= 1), bins + 1


def width_edges(bins, dtype=np.float64):
    """Returns the B + 1 edges of equal-width bins, correctly rounded."""
    return (np.arange(bins + 1) / bins).astype(dtype)


def mass_bins(values, weights, bins):
    """Returns the index of the equal-mass bin of each value: the share of the weight strictly below it, times B.

    Equal values share a bin, whatever their order, so that bins are of equal weight up to ties.
    """
    order = np.argsort(values)
    ordered = values[order]
    first = np.searchsorted(ordered, ordered, side="left")
    below = np.cumsum(weights[..., order], axis=-1) - weights[..., order]
    total = weights.sum(axis=-1, keepdims=True)
    share = below[..., first] / np.where(total > 0, total, 1.0)
    index = np.empty(weights.shape, np.int64)
    index[..., order] = np.minimum(share * bins + 1e-9, bins - 1)  # a share that is a whole bin, but for rounding
    return index


def check_binning(bins, binning, convention):
    """Raises `ValueError` unless the three name a way to bin."""
    if isinstance(bins, bool) or not isinstance(bins, numbers.Integral) or bins < 1:
        raise ValueError(f"`bins` must be a whole number of at least 1. Received: bins={bins}")
    if binning not in BINNINGS:
        raise ValueError(f"`binning` must be one of {', '.join(BINNINGS)}. Received: binning={binning!r}")
    if convention not in CONVENTIONS:
        raise ValueError(f"`convention` must be one of {', '.join(CONVENTIONS)}. Received: convention={convention!r}")
    if binning == "mass" and convention != "guo":
        raise ValueError(f"Conventions are about equal-width bins. Received: convention={convention!r}, binning='mass'")


def _bin_sums(index, values, bins):
    """Sums values of shape `(..., N)` over bins: shape `(..., B)`."""
    rows = values.reshape(-1, values.shape[-1])
    offset = index + bins * np.arange(len(rows))[:, None]
    return np.bincount(offset.ravel(), rows.ravel(), bins * len(rows)).reshape(*values.shape[:-1], bins)
