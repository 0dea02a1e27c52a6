"""Maps of each class's probability, one class against the rest: isotonic regression and histogram binning."""

import numpy as np

from kls.calibration.reliability import check_binning, width_bins
from kls.calibration.samples import softmax
from kls.calibration.scaling.base import Scaler


class IsotonicScaling(Scaler):
    """Isotonic regression of each class's probability, one class against the rest (Zadrozny & Elkan 2002).

    The K calibrated probabilities are divided by their sum; where all are 0 each class gets 1/K. A probability may
    become exactly 0, and the negative log-likelihood then infinite.

    Example:

    >>> scaling = IsotonicScaling().fit([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1, 1])
    >>> softmax(scaling.transform([[2.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """

    def _fit(self, logits, labels):
        from sklearn.isotonic import IsotonicRegression

        self._regressions = [
            IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, labels == k)
            for k, p in enumerate(softmax(logits).T)
        ]

    def _transform(self, logits):
        columns = zip(self._regressions, softmax(logits).T, strict=True)
        return _normalized_log(np.stack([regression.predict(p) for regression, p in columns], axis=1))


class HistogramBinning(Scaler):
    """Replaces each class's probability by the share of that class in its bin (Zadrozny & Elkan 2001).

    One class against the rest; the K shares are divided by their sum, and where all are 0 each class gets 1/K. A bin
    that was empty in `fit` keeps its centre.

    Args:
        bins: Number of bins of equal width in [0, 1].

    Attributes:
        shares: Array of shape `(K, bins)`, after `fit`.

    Example:

    >>> scaling = HistogramBinning(bins=2).fit([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1, 1])
    >>> scaling.shares.tolist()
    [[0.0, 0.5], [0.5, 1.0]]
    """

    shares = None

    def __init__(self, bins=15):
        check_binning(bins, "width", "guo")
        self.bins = bins

    def _fit(self, logits, labels):
        centres = (np.arange(self.bins) + 0.5) / self.bins
        self.shares = np.tile(centres, (logits.shape[1], 1))
        for k, p in enumerate(softmax(logits).T):
            index, _ = width_bins(p, self.bins)
            count = np.bincount(index, minlength=self.bins)
            hits = np.bincount(index, labels == k, self.bins)
            self.shares[k, count > 0] = hits[count > 0] / count[count > 0]

    def _transform(self, logits):
        columns = zip(self.shares, softmax(logits).T, strict=True)
        return _normalized_log(np.stack([shares[width_bins(p, self.bins)[0]] for shares, p in columns], axis=1))


def _normalized_log(probabilities):
    probabilities[probabilities.sum(axis=1) == 0] = 1.0
    with np.errstate(divide="ignore"):
        return np.log(probabilities / probabilities.sum(axis=1, keepdims=True))
