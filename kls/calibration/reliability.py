"""Bins: how often a classifier is right where it is how confident."""

import math
from dataclasses import dataclass

import numpy as np

from kls.calibration.samples import as_result
from kls.utils.arrays import check_choice, check_whole
from kls.utils.bootstrap import Interval

CONVENTIONS = ("guo", "netcal", "torchmetrics")
BINNINGS = ("width", "mass")
NORMS = (1, 2, "max")
MOST_BINS = 10_000  # each takes memory per resample, and there are hardly more samples in an evaluation split


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
        check_choice(norm, "norm", NORMS)
        if norm == 1:
            return as_result((self.share * np.abs(self.gap)).sum(axis=-1))
        if norm == 2:
            return as_result(np.sqrt((self.share * self.gap**2).sum(axis=-1)))
        return as_result(np.abs(self.gap).max(axis=-1))


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
    index, bins = bin_indices(values, weights, bins, binning, convention)
    weight = _bin_sums(index, weights, bins)
    with np.errstate(invalid="ignore"):
        means = (_bin_sums(index, weights * x, bins) / weight for x in (values.astype(np.float64), outcomes))
        return Reliability(weight, *(np.where(weight > 0, mean, 0.0) for mean in means))


def error_interval(values, outcomes, level, bins=15, binning="width", convention="guo"):
    """Returns the L1 calibration error of predicted values with a confidence interval that holds near calibration.

    The error is `sum_m |D_m|`, where `D_m` sums outcome minus value over the samples of bin m and divides by N. It
    overestimates: the mean of `|D_m|` is the true `|d_m|` plus `s_m (2 phi(u) - 2 u Phi(-u))`, `s_m` the standard error
    of `D_m` and `u = |d_m| / s_m`. That is 0.8 s_m in a calibrated bin and next to nothing in one far from it. A
    bootstrap cannot see it, since its resamples start from the estimate. Hence

        high = error + half,   low = error - half - bias

    The bias is summed over bins, with `u` as small as the level lets it be, `|D_m| / s_m - z`, and `s_m` at least what
    it is for a calibrated model. `half` is the half-width of Wilson's interval with V, the mean squared outcome minus
    value, in the place of p (1 - p): `z^2 / (2 N) + z sqrt(V / N + z^2 / (4 N^2))`, so that a model that was right on
    all samples is not certain to be. The interval is wide rather than wrong: docs/coverage.md has its coverage.

    Args:
        values: Predicted probabilities of shape `(N,)`.
        outcomes: Whether they came true, shape `(N,)`.
        level: Confidence level, in (0, 1).
        bins: Number of bins B.
        binning: As in `reliability`.
        convention: As in `reliability`.

    Returns:
        An `Interval`.

    Example:

    >>> print(error_interval(np.full(50, 0.98), np.ones(50), 0.95))
    0.0200 [0.0000, 0.0972]
    """
    from scipy.stats import norm

    size = len(values)
    index, bins = bin_indices(values, np.ones(size), bins, binning, convention)
    values = values.astype(np.float64)
    residuals = outcomes - values
    gaps = np.abs(_bin_sums(index, residuals, bins)) / size
    error, spread = float(gaps.sum()), float(np.mean(residuals**2))
    calibrated, found = (_bin_sums(index, squares, bins) for squares in (values * (1 - values), residuals**2))
    deviations = np.sqrt(np.maximum(calibrated, found)) / size
    z = norm.isf((1 - level) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.where(deviations > 0, np.maximum(gaps / deviations - z, 0), 0)
    bias = float((2 * deviations * (norm.pdf(far) - far * norm.sf(far))).sum())
    half = float(z**2 / (2 * size) + z * math.sqrt(spread / size + z**2 / (4 * size**2)))
    return Interval(error, max(error - half - bias, 0.0), min(error + half, 1.0), level, 0, "bias bound")


def bin_indices(values, weights, bins, binning, convention):
    """Returns the index of the bin of each value, and the number of bins; see `width_bins` and `mass_bins`."""
    check_binning(bins, binning, convention)
    if binning == "width":
        return width_bins(values, bins, convention)
    return mass_bins(values, weights, bins), bins


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
    check_whole(bins, "bins", 1, MOST_BINS)
    check_choice(binning, "binning", BINNINGS)
    check_choice(convention, "convention", CONVENTIONS)
    if binning == "mass" and convention != "guo":
        raise ValueError(f"Conventions are about equal-width bins. Received: convention={convention!r}, binning='mass'")


def _bin_sums(index, values, bins):
    """Sums values of shape `(..., N)` over bins: shape `(..., B)`."""
    rows = values.reshape(-1, values.shape[-1])
    offset = index + bins * np.arange(len(rows))[:, None]
    return np.bincount(offset.ravel(), rows.ravel(), bins * len(rows)).reshape(*values.shape[:-1], bins)
