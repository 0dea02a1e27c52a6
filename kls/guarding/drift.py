"""Have the scores of new data changed since calibration?"""

from dataclasses import dataclass

import numpy as np

ALPHA = 0.01  # one batch in a hundred is called changed where nothing has


@dataclass(frozen=True)
class Drift:
    """What a comparison of a batch's scores with those at calibration found; `str` says it in a sentence.

    Attributes:
        statistic: The largest difference between the two distribution functions (Kolmogorov-Smirnov).
        p_value: Probability of a difference as large where both are samples of one distribution.
        n: Number of images of the batch.
        in_distribution: Share of them that the guard takes for in-distribution.
        kept: That share at calibration.
    """

    statistic: float
    p_value: float
    n: int
    in_distribution: float
    kept: float

    @property
    def has_changed(self):
        """Whether a change can be told: a p-value below 0.01."""
        return self.p_value < ALPHA

    def __str__(self):
        verdict = "The scores have changed" if self.has_changed else "No change can be told"
        return (
            f"{verdict}: {100 * self.in_distribution:.1f} % of {self.n:,} images are in distribution, at calibration "
            f"{100 * self.kept:.1f} % were (two-sample Kolmogorov-Smirnov test, p = {self.p_value:.2g})."
        )


def drift_of(scores, reference, threshold, kept):
    """Returns the `Drift` of scores.

    Args:
        scores: Scores of new data, shape `(N,)`.
        reference: Scores at calibration.
        threshold: A score at or above it counts as in-distribution.
        kept: Share of all calibration data that does.

    Example:

    >>> str(drift_of([0.0] * 50, [1.0, 2.0] * 50, 1.0, 1.0))[:23]
    'The scores have changed'
    """
    from scipy.stats import ks_2samp

    found = ks_2samp(scores, reference)
    share = np.mean(np.asarray(scores) >= threshold)
    return Drift(float(found.statistic), float(found.pvalue), len(scores), float(share), kept)
