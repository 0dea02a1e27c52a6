"""How far a mean difference over seeds and images may lie from that of new seeds and new images.

The difference of seed i on image j is taken as `delta + a_i + b_j + e_ij`: what is special to the seed, to the image,
and to the two together, with variances S, I and E. The mean over n seeds and N images has the variance
`S / n + I / N + E / (n N)`. Two numbers are seen of it: the variance of the seeds' differences over n, which estimates
`S / n + E / (n N)`, and the variance that other images would bring to the mean over these seeds, which estimates
`I / N + E / (n N)`. E is in both.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from scipy import stats

MOST_SEEDS, MOST_IMAGES = 1_000, 10**7  # more are none that anyone would train or has
DRAWS = 20_000


@dataclass(frozen=True)
class Uncertainty:
    """The variance of a mean difference, by where it comes from.

    Attributes:
        n: Number of seeds.
        size: Number of images, those of the smallest set.
        seeds: Variance of the seeds' differences, divided by n; 0 for one seed, of which it is unknown.
        images: Variance of the mean over these seeds that other images would bring.
        residual: What is in both of them.
        bias: By how much the difference is too large on average, on so many images: the calibration error is.
    """

    n: int
    size: int
    seeds: float
    images: float
    residual: float
    bias: float = 0.0

    @property
    def standard_error(self):
        """The standard error for new seeds and images; for new images alone where there is one seed."""
        return math.sqrt(max(self.seeds + self.images - self.residual, self.seeds, self.images))

    def half_width(self, level):
        """Returns the half-width of the confidence interval of the mean difference.

        Each of the two independent parts of the mean has an interval of its own: that over seeds by Student's t with
        n - 1 degrees of freedom, that of the images' share by t with N - 1. Their squares add up (Howe 1974; Zou &
        Donner 2008), and the interval is at least that for new images alone. With Satterthwaite's degrees of freedom
        intervals hold as seldom as 87 % of the time at n = 2, and 92 % at n = 3: see docs/comparison.md.

        Args:
            level: Confidence level, in (0, 1).
        """
        of_images = stats.t.isf((1 - level) / 2, self.size - 1) ** 2
        least = of_images * self.images
        if self.n == 1:
            return math.sqrt(least)
        of_seeds = stats.t.isf((1 - level) / 2, self.n - 1) ** 2
        return math.sqrt(max(of_seeds * self.seeds + of_images * max(self.images - self.residual, 0.0), least))

    def reach(self, level):
        """Returns how far the confidence interval reaches below and above the difference.

        It holds both what is measured on so many images and what it would be on all of them, the difference without its
        bias.
        """
        half = self.half_width(level)
        return half + max(self.bias, 0.0), half - min(self.bias, 0.0)

    def with_others(self, n, size):
        """Returns the `Uncertainty` to expect of `n` seeds and `size` images."""
        cells = self.residual * self.n * self.size / (n * size)
        seeds, images = max(self.seeds - self.residual, 0.0), max(self.images - self.residual, 0.0)
        bias = self.bias * math.sqrt(self.size / size)
        return Uncertainty(n, size, seeds * self.n / n + cells, images * self.size / size + cells, cells, bias)

    def seeds_needed(self, width, level):
        """Returns the number of seeds with which intervals of at most a width are to be expected of these images.

        `None` where no number is enough that anyone would train, and for one seed, which tells nothing of others.
        """
        return self._least(MOST_SEEDS, lambda n: self.with_others(n, self.size), width, level)

    def images_needed(self, width, level):
        """Returns what `seeds_needed` does, of images with these seeds; of several sets that all grow alike."""
        return self._least(MOST_IMAGES, lambda size: self.with_others(self.n, size), width, level)

    def _least(self, most, expected, width, level):
        if self.n == 1:
            return None
        found = bisect_left(range(2, most), True, key=lambda count: sum(expected(count).reach(level)) <= width) + 2
        return found if found < most else None


def uncertainties(differences, bias, covariance, size, resampled=False, unseen=0):
    """Returns the `Uncertainty` of each method's mean difference from the baseline.

    For a metric that is a mean over images these are the mean squares of the crossed table of seeds and images:
    `seeds = MS_S / (n N)`, `images = MS_I / (n N)`, `residual = MS_E / (n N)`.

    Args:
        differences: Differences of shape `(M, n)`: M methods, n paired seeds.
        bias: By how much they are too large on average, of shape `(M n,)`.
        covariance: Their covariance when other images are drawn, of shape `(M n, M n)`.
        size: Number of images N.
        resampled: Whether the covariance is a bootstrap's. Of a metric with kinks, such as the ECE, it makes more of
            what networks have on their own than there is; nothing is taken off then.
        unseen: How many images with a difference of 1 to add that were not seen, half of them for either side.
    """
    count, n = differences.shape
    images = np.maximum(np.diagonal(_over_seeds(covariance, count)), 0)  # rounding, of networks that are the same
    if n == 1:
        seeds, residual = np.zeros((2, count))
    else:
        seeds = differences.var(axis=1, ddof=1) / n
        single = np.diagonal(covariance).reshape(count, n).mean(axis=1)
        residual = np.zeros(count) if resampled else np.maximum(single - images, 0) / (n - 1)
    parts = seeds, images + unseen / size**2, residual, bias.reshape(count, n).mean(axis=1)
    return [Uncertainty(n, size, *each) for each in np.transpose(parts).tolist()]


def simultaneous_level(found, covariance, level, seed):
    """Returns the level of single intervals that all hold at once with probability `level`: max-|t|.

    The largest of the M standardised differences is drawn from the normal distribution with their covariance (Hothorn,
    Bretz & Westfall 2008). That of the images is known, also between methods; what is special to seeds is taken as
    uncorrelated, which errs on the safe side.

    Args:
        found: What `uncertainties` returned.
        covariance: The covariance that it was given.
        level: The level wanted.
        seed: Integer that the draws are made from.

    Returns:
        Float between `level` and that of Bonferroni.
    """
    total = _over_seeds(covariance, len(found)) + np.diag([max(part.seeds - part.residual, 0.0) for part in found])
    varying = np.flatnonzero(np.diagonal(total) > 0)
    if len(varying) < 2:
        return level
    total = total[np.ix_(varying, varying)]
    roots, vectors = np.linalg.eigh(total / np.sqrt(np.outer(np.diagonal(total), np.diagonal(total))))
    draws = np.random.default_rng(seed).standard_normal((DRAWS, len(varying)))
    largest = np.abs(draws @ (vectors * np.sqrt(np.maximum(roots, 0))).T).max(axis=1)
    single = 2 * stats.norm.sf(np.quantile(largest, level))
    return 1 - float(np.clip(single, (1 - level) / len(varying), 1 - level))


def _over_seeds(covariance, count):
    """Returns the covariance, of shape `(M, M)`, of the means over seeds."""
    n = len(covariance) // count
    return covariance.reshape(count, n, count, n).mean(axis=(1, 3))
