"""Calibration metrics on arrays.

All take class indices or one-hot labels, and class probabilities (or logits, with `from_logits=True`) of shape
`(N, K)`. `sample_weight` of shape `(N,)` weighs samples; of shape `(R, N)` it gives an array of R results, one per row
of weights, which is how `interval` resamples. Errors in labels or probabilities raise `ValueError` and say where.

Defined corners: all predictions right or all wrong are no special case (with confidence 1 and all right every error
is 0); a set in which one class alone occurs is measured like any other.
"""

from functools import partial

import numpy as np

from kls.calibration import errors
from kls.calibration.reliability import error_interval, reliability
from kls.calibration.samples import as_result, per_sample
from kls.utils.bootstrap import check_resampling, percentile_interval
from kls.utils.proportions import proportion_interval


def accuracy(y_true, probabilities, from_logits=False, sample_weight=None):
    """Returns the share of samples whose likeliest class is the true one; of equally likely ones the first counts.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        from_logits: Whether `probabilities` are logits.
        sample_weight: Weights of shape `(N,)`, or `(R, N)` for R results.

    Returns:
        Float in [0, 1], or an array of shape `(R,)`.

    Raises:
        ValueError: If labels, probabilities or weights are not as above.

    Example:

    >>> accuracy([0, 1], [[0.9, 0.1], [0.7, 0.3]])
    0.5
    """
    return per_sample(y_true, probabilities, from_logits, sample_weight).mean("correct")


def brier_score(y_true, probabilities, from_logits=False, sample_weight=None):
    """Returns the Brier score, `1/N sum_n sum_k (p_nk - y_nk)^2` (Brier 1950), the sum over classes.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        from_logits: Whether `probabilities` are logits.
        sample_weight: Weights of shape `(N,)`, or `(R, N)` for R results.

    Returns:
        Float in [0, 2], or an array of shape `(R,)`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> round(brier_score([0], [[0.7, 0.2, 0.1]]), 4)
    0.14
    """
    return per_sample(y_true, probabilities, from_logits, sample_weight).mean("brier")


def brier_top(y_true, probabilities, from_logits=False, sample_weight=None):
    """Returns the top-label Brier score, `1/N sum_n (confidence_n - correct_n)^2`.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        from_logits: Whether `probabilities` are logits.
        sample_weight: Weights of shape `(N,)`, or `(R, N)` for R results.

    Returns:
        Float in [0, 1], or an array of shape `(R,)`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> round(brier_top([0], [[0.7, 0.2, 0.1]]), 4)
    0.09
    """
    return per_sample(y_true, probabilities, from_logits, sample_weight).mean("brier_top")


def negative_log_likelihood(y_true, probabilities, from_logits=False, sample_weight=None):
    """Returns the mean negative log-likelihood of the true class in nats, `-1/N sum_n log p_n,true`.

    From logits it is `logsumexp(z) - z_true`, which neither overflows nor loses a small probability. A probability
    of exactly 0 for a true class gives infinity: nothing is clipped.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        from_logits: Whether `probabilities` are logits.
        sample_weight: Weights of shape `(N,)`, or `(R, N)` for R results.

    Returns:
        Float of at least 0, or an array of shape `(R,)`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> negative_log_likelihood([0], [[0.0, 1000.0]], from_logits=True)
    1000.0
    """
    return per_sample(y_true, probabilities, from_logits, sample_weight).mean("nll")


def area_under_risk_coverage(y_true, probabilities, from_logits=False, sample_weight=None):
    """Returns the area under the risk-coverage curve (Geifman et al. 2019): the mean risk over all coverages.

    A classifier that answers only where it is most confident errs on a share of what it answers, the risk; here that
    is averaged over the N thresholds that the samples' own confidences set. Samples of equal confidence are answered
    together, so that their order does not matter. All right gives 0, all wrong 1.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        from_logits: Whether `probabilities` are logits.
        sample_weight: Weights of shape `(N,)`, or `(R, N)` for R results.

    Returns:
        Float in [0, 1], or an array of shape `(R,)`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> area_under_risk_coverage([0, 1], [[0.9, 0.1], [0.8, 0.2]])
    0.25
    """
    return _area_under_risk_coverage(per_sample(y_true, probabilities, from_logits, sample_weight))


def summarize(y_true, probabilities, bins=15, from_logits=False, convention="guo", sample_weight=None):
    """Returns accuracy and the usual metrics of calibration from one pass over the predictions.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        bins: Number of bins of equal width.
        from_logits: Whether `probabilities` are logits.
        convention: As in `expected_calibration_error`, for ECE and MCE.
        sample_weight: Weights of shape `(N,)`, or `(R, N)` for R results.

    Returns:
        Dictionary of `accuracy`, `ece`, `mce`, `uce`, `nll`, `brier`, `brier_top` and `aurc`, each as its function
        returns it.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> summary = summarize([0, 1], [[0.9, 0.1], [0.8, 0.2]])
    >>> {name: round(value, 2) for name, value in summary.items() if name in ("accuracy", "ece", "brier")}
    {'accuracy': 0.5, 'ece': 0.45, 'brier': 0.65}
    """
    samples = per_sample(y_true, probabilities, from_logits, sample_weight)
    confident = reliability(samples.confidence, samples.correct, samples.weights, bins, "width", convention)
    return {
        "accuracy": samples.mean("correct"),
        "ece": confident.error(),
        "mce": confident.error("max"),
        "uce": reliability(samples.uncertainty, ~samples.correct, samples.weights, bins).error(),
        "nll": samples.mean("nll"),
        "brier": samples.mean("brier"),
        "brier_top": samples.mean("brier_top"),
        "aurc": _area_under_risk_coverage(samples),
    }


def interval(metric, y_true, probabilities, n=1000, level=0.95, seed=0, **options):
    """Returns a metric with its confidence interval.

    Accuracy has the exact interval of a proportion (Clopper & Pearson 1934). ECE (`norm=1`) and UCE have one that
    allows for their bias, which a bootstrap cannot see where a model is nearly calibrated; see
    `kls.calibration.reliability.error_interval`. All else has percentiles of the metric on resampled samples (Efron
    1979), minus the bootstrap's estimate of the bias: see `kls.utils.bootstrap`. Of the largest gap of a bin (MCE,
    `norm="max"`) no bootstrap says much: one sample can make it. The RMS and the classwise error of a nearly calibrated
    model are covered less often than the level says: docs/coverage.md shows how often.

    Args:
        metric: A function of this module that returns a number.
        y_true: Labels, as the metric takes them.
        probabilities: Predictions, as the metric takes them.
        n: Number of resamples.
        level: Confidence level, in (0, 1).
        seed: Integer from which the resamples are drawn.
        **options: Further arguments of the metric, but `sample_weight`, which the resamples are.

    Returns:
        An `Interval` with `value`, `low`, `high`, `level`, `n` and `method`; `n` is 0 where nothing is resampled.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> print(interval(accuracy, [0] * 50, [[0.9, 0.1]] * 50))
    1.0000 [0.9289, 1.0000]
    """
    check_resampling(metric, n, level, seed)
    if metric in _CLOSED and options.get("norm", 1) == 1:
        return _CLOSED[metric](level, y_true, probabilities, **options)

    def resampled(weights):
        return metric(y_true, probabilities, sample_weight=weights, **options)

    return percentile_interval(resampled, [len(probabilities)], n, level, seed)


def _accuracy_interval(level, y_true, probabilities, from_logits=False):
    correct = per_sample(y_true, probabilities, from_logits).correct
    return proportion_interval(int(correct.sum()), len(correct), level)


def _confidence_interval(level, y_true, probabilities, norm=1, from_logits=False, **binning):
    samples = per_sample(y_true, probabilities, from_logits)
    return error_interval(samples.confidence, samples.correct, level, **binning)


def _uncertainty_interval(level, y_true, probabilities, bins=15, from_logits=False):
    samples = per_sample(y_true, probabilities, from_logits)
    return error_interval(samples.uncertainty, ~samples.correct, level, bins)


_CLOSED = {
    accuracy: _accuracy_interval,
    errors.expected_calibration_error: _confidence_interval,
    errors.uncertainty_calibration_error: _uncertainty_interval,
}


def risk_coverage(y_true, probabilities, from_logits=False):
    """Returns the risk-coverage curve: `(coverage, risk)` at each distinct confidence, from the highest down.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        from_logits: Whether `probabilities` are logits.

    Returns:
        Two arrays of equal length: the share of samples that is answered, and the share of these that is wrong.

    Raises:
        ValueError: If labels or probabilities are not as above.

    Example:

    >>> coverage, risk = risk_coverage([0, 1], [[0.9, 0.1], [0.8, 0.2]])
    >>> coverage.tolist(), risk.tolist()
    ([0.5, 1.0], [0.0, 0.5])
    """
    _, covered, risk, last = _risks(per_sample(y_true, probabilities, from_logits))
    distinct = np.unique(last)
    return covered[distinct] / covered[-1], risk[distinct]


def _risks(samples):
    """Returns, most confident sample first: weights, covered weight and risk so far, and the last of its equals."""
    order = np.argsort(-samples.confidence)
    descending = -samples.confidence[order]
    weights = samples.weights[..., order]
    covered = np.cumsum(weights, axis=-1)
    wrong = np.cumsum(weights * ~samples.correct[order], axis=-1)
    with np.errstate(invalid="ignore"):
        risk = np.where(covered > 0, wrong / covered, 0.0)
    return weights, covered, risk, np.searchsorted(descending, descending, side="right") - 1


def _area_under_risk_coverage(samples):
    weights, covered, risk, last = _risks(samples)
    return as_result((weights * risk[..., last]).sum(axis=-1) / covered[..., -1])


METRICS = {
    "accuracy": accuracy,
    "ece": errors.expected_calibration_error,
    "mce": errors.maximum_calibration_error,
    "rmsce": partial(errors.expected_calibration_error, norm=2),
    "debiased": errors.debiased_calibration_error,
    "classwise": errors.classwise_calibration_error,
    "uce": errors.uncertainty_calibration_error,
    "brier": brier_score,
    "brier_top": brier_top,
    "nll": negative_log_likelihood,
    "aurc": area_under_risk_coverage,
}
