"""Metrics of many networks on the same images, and their covariance when other images are drawn.

A `Sampled` is a metric of G networks. Weights are arrays of shape `(N, R)`, one per set of images: how often each image
is in each of R samples.
"""

import math

import numpy as np
from scipy import sparse

from kls.calibration.reliability import width_bins
from kls.ood.metrics import auroc
from kls.utils.bootstrap import resample

BINS = 15
TPR = 0.95
CHUNK = 1 << 21  # weights that are in memory at once


class Sampled:
    """A metric of G networks on the same images.

    Args:
        sizes: Number of images of each set.

    Attributes:
        resampled: Whether its covariance is a bootstrap's.
        excess: By what the mean over resamples minus the value is multiplied to give the bias of the value.
    """

    resampled = True
    excess = 0.0

    def __init__(self, sizes):
        self.sizes = tuple(sizes)

    def values(self, weights):
        """Returns the metric of each network on each of R samples, shape `(G, R)`."""
        raise NotImplementedError

    def on_all(self):
        """Returns the metric of each network on all images, once, shape `(G, 1)`."""
        return self.values([np.ones((size, 1)) for size in self.sizes])

    def moments(self, resamples, seed):
        """Returns the bias of each network's metric, `(G,)`, and their covariance when images are drawn, `(G, G)`.

        By the bootstrap (Efron 1979), each set resampled on its own, with the same resamples for all networks.

        Args:
            resamples: Number of resamples.
            seed: Integer that they are drawn from.
        """
        rng = np.random.default_rng(seed)
        rows = max(1, CHUNK // sum(self.sizes))
        drawn = [
            self.values([resample(rng, min(rows, resamples - start), size).T for size in self.sizes])
            for start in range(0, resamples, rows)
        ]
        drawn = np.concatenate(drawn, axis=1)
        return self.excess * (drawn.mean(axis=1) - self.on_all()[:, 0]), np.atleast_2d(np.cov(drawn))


class Smooth(Sampled):
    """A metric whose covariance is that of the images' influences, and which has next to no bias."""

    resampled = False

    def covariance(self):
        """Returns the covariance of the networks' metrics when images are drawn, shape `(G, G)`."""
        raise NotImplementedError

    def moments(self, resamples, seed):
        covariance = self.covariance()
        return np.zeros(len(covariance)), covariance


class Means(Smooth):
    """Means of a loss over images.

    Args:
        losses: Losses of shape `(G, N)`.
    """

    def __init__(self, losses):
        super().__init__(losses.shape[1:])
        self.losses = losses

    def values(self, weights):
        return self.losses @ weights[0] / weights[0].sum(axis=0)

    def covariance(self):
        return np.atleast_2d(np.cov(self.losses)) / self.sizes[0]


class Binned(Sampled):
    """Calibration errors with bins of equal width; the mean over K predicted values per image.

    They are too large. In a calibrated bin the sum of outcomes minus values is noise, of which the size is taken; a
    resample adds as much noise again, so that the mean over resamples is larger by sqrt(2). What it is larger by is
    hence the bias, times sqrt(2) - 1. In a bin far from calibration both are next to nothing.

    Args:
        values: Predicted probabilities of each network, each of shape `(N, K)`.
        outcomes: Whether they came true, each of shape `(N, K)`.
    """

    excess = 1 / (math.sqrt(2) - 1)

    def __init__(self, values, outcomes):
        count, self._classes = values[0].shape
        super().__init__([count])
        self._networks = [self._sums(*pair) for pair in zip(values, outcomes, strict=True)]

    def _sums(self, values, outcomes):
        """Returns the matrices that sum outcomes minus values over all images, and over the bins after the first.

        Most probabilities of most classes lie in the first bin, of which the sum is what is left of all.
        """
        samples, classes = np.nonzero(index := width_bins(values, BINS)[0])
        gaps = outcomes.astype(np.float64) - values
        columns = classes * (BINS - 1) + index[samples, classes] - 1
        shape = (self._classes * (BINS - 1), self.sizes[0])
        return gaps.T, sparse.csr_array((gaps[samples, classes], (columns, samples)), shape)

    def values(self, weights):
        weights = np.ascontiguousarray(weights[0])
        found = []
        for gaps, binned in self._networks:
            total = gaps @ weights
            bins = (binned @ weights).reshape(self._classes, BINS - 1, -1)
            found.append(np.abs(bins).sum(axis=(0, 1)) + np.abs(total - bins.sum(axis=1)).sum(axis=0))
        return np.stack(found) / weights.sum(axis=0) / self._classes


class RiskCoverage(Smooth):
    """Areas under the risk-coverage curve.

    Args:
        confidence: Confidences of shape `(G, N)`.
        wrong: Whether the predicted class is wrong, of shape `(G, N)`.
    """

    def __init__(self, confidence, wrong):
        super().__init__(confidence.shape[1:])
        self._pairs = list(zip(-confidence, wrong, strict=True))

    def values(self, weights):
        found = []
        for unsure, wrong in self._pairs:
            order, _, last = _ordered(unsure)
            ordered = weights[0][order]
            answered = np.cumsum(ordered, axis=0)[last]
            errors = np.cumsum(ordered * wrong[order, None], axis=0)[last]
            risk = np.divide(errors, answered, out=np.zeros_like(errors), where=answered > 0)
            found.append((ordered * risk).sum(axis=0) / ordered.sum(axis=0))
        return np.stack(found)

    def covariance(self):
        """Returns the covariance by the infinitesimal jackknife (Jaeckel 1972): that of the images' influences."""
        return np.atleast_2d(np.cov(np.stack([self._influence(*pair) for pair in self._pairs]))) / self.sizes[0]

    def _influence(self, unsure, wrong):
        """Returns by how much N further copies of an image would move the area, but for a constant.

        An image adds the risk at its own confidence, and moves the risk at every lower one towards its own loss.
        """
        order, first, last = _ordered(unsure)
        answered = last + 1
        risk = np.cumsum(wrong[order])[last] / answered
        below = [np.cumsum(terms[::-1])[::-1][first] for terms in (1 / answered, risk / answered)]
        influence = np.empty(len(order))
        influence[order] = risk + wrong[order] * below[0] - below[1]
        return influence


class Areas(Smooth):
    """Areas under the ROC of ID against OOD images, the mean over sets of OOD images.

    Args:
        id_scores: Scores of shape `(G, N)`.
        ood_scores: One array of shape `(G, M)` per set.
    """

    def __init__(self, id_scores, ood_scores):
        super().__init__(scores.shape[1] for scores in (id_scores, *ood_scores))
        self._id_scores, self._ood_scores = id_scores, ood_scores

    def values(self, weights):
        first, *others = (np.ascontiguousarray(part.T) for part in weights)
        return np.mean(
            [
                [auroc(*pair, sample_weight=(first, other)) for pair in zip(self._id_scores, scores, strict=True)]
                for scores, other in zip(self._ood_scores, others, strict=True)
            ],
            axis=0,
        )

    def covariance(self):
        """Returns the covariance by placements, the shares of the other side that images beat (DeLong et al. 1988)."""
        sets, of_id, of_ood = len(self._ood_scores), np.zeros(self._id_scores.shape), 0.0
        for scores in self._ood_scores:
            pairs = [_placements(*pair) for pair in zip(self._id_scores, scores, strict=True)]
            of_id += [first for first, _ in pairs]
            of_ood = of_ood + np.cov([second for _, second in pairs]) / scores.shape[1]
        return np.atleast_2d(np.cov(of_id) / self.sizes[0] + of_ood) / sets**2


class Rates(Sampled):
    """Shares of OOD images above the threshold that keeps 95 % of the ID images, the mean over sets of OOD images.

    Args:
        id_scores: Scores of shape `(G, N)`.
        ood_scores: One array of shape `(G, M)` per set.
    """

    def __init__(self, id_scores, ood_scores):
        super().__init__(scores.shape[1] for scores in (id_scores, *ood_scores))
        self._networks = list(zip(id_scores, *ood_scores, strict=True))

    def values(self, weights):
        totals = [part.sum(axis=0) for part in weights]
        found = []
        for id_scores, *ood_scores in self._networks:
            thresholds = _thresholds(id_scores, weights[0], totals[0])
            rates = [
                _above(scores, part, thresholds) / total
                for scores, part, total in zip(ood_scores, weights[1:], totals[1:], strict=True)
            ]
            found.append(np.mean(rates, axis=0))
        return np.stack(found)


def _thresholds(scores, weights, totals):
    """Returns the highest score at which a share `TPR` of the weight lies at or above it, of shape `(R,)`."""
    order, first, _ = _ordered(scores)
    few = int(2 * (1 - TPR) * len(scores)) + 10  # it is hardly ever further up
    for order_of_low, first_of_low in ((order[:few], first[:few]), (order, first)):
        ordered = weights[order_of_low]
        below = (np.cumsum(ordered, axis=0) - ordered)[first_of_low]
        kept = totals - below >= TPR * totals * (1 - 1e-12)
        if not kept[-1].any():
            break
    return scores[order][kept.sum(axis=0) - 1]


def _above(scores, weights, thresholds):
    """Returns the weight of the scores at or above each threshold, of shape `(R,)`."""
    highest = thresholds.max()
    between = np.flatnonzero((scores >= thresholds.min()) & (scores < highest))
    above = (scores >= highest).astype(np.float64) @ weights
    return above + (weights[between] * (scores[between, None] >= thresholds)).sum(axis=0)


def _placements(first, second):
    """Returns, for each score of either side, the share of the other side's that are below it, equal ones half."""
    orders = np.argsort(first), np.argsort(second)
    low, high = first[orders[0]], second[orders[1]]
    found = np.empty(len(first)), np.empty(len(second))
    for placements, order, own, others in zip(found, orders, (low, high), (high, low), strict=True):
        below, below_or_equal = (np.searchsorted(others, own, side) for side in ("left", "right"))
        placements[order] = (below + below_or_equal) / (2 * len(others))
    return found


def _ordered(values):
    """Returns the order of values, the lowest first, and in this order the first and the last of each one's equals."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return order, np.searchsorted(ordered, ordered, "left"), np.searchsorted(ordered, ordered, "right") - 1
