"""Calibration metrics on arrays.

All take class indices or one-hot labels, and class probabilities (or logits, with `from_logits=True`) of shape
`(N, K)`. `sample_weight` of shape `(N,)` weighs samples; of shape `(R, N)` it gives an array of R results, one per row
of weights, which is how `interval` resamples. Errors in labels or probabilities raise `ValueError` and say where.

Defined corners: all predictions right or all wrong are no special case (with confidence 1 and all right every error
is 0); a set in which one class alone occurs is measured like any other.
"""

from functools import partial

import numpy as np

from kls.calibration.reliability import check_binning, error_interval, reliability
from kls.calibration.samples import as_indices, as_matrix, as_result, as_weights, per_sample, softmax
from kls.utils.arrays import check_number
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
    samples = per_sample(y_true, probabilities, from_logits)
    return _mean(samples.correct, as_weights(sample_weight, len(samples.correct)))


def expected_calibration_error(
    y_true,
    probabilities,
    bins=15,
    binning="width",
    norm=1,
    from_logits=False,
    convention="guo",
    sample_weight=None,
):
    """Returns the expected calibration error of the predicted class.

    `ECE = sum_m |B_m| / N |acc(B_m) - conf(B_m)|` over bins of the confidence (Naeini et al. 2015; Guo et al. 2017,
    equation 3). `norm=2` is the root of the mean square gap (RMS calibration error, Hendrycks et al. 2019), `"max"`
    the largest gap of a bin.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        bins: Number of bins.
        binning: `"width"` for bins of equal width in [0, 1], `"mass"` for bins of equally many samples (equal
            confidences share a bin).
        norm: 1, 2 or `"max"`.
        from_logits: Whether `probabilities` are logits.
        convention: Where bins of equal width are closed: `"guo"` right, (lo, hi], with 0 in the first bin; `"netcal"`
            left, with 1 in the last bin; `"torchmetrics"` left, with exactly 1 in a bin of its own.
        sample_weight: Weights of shape `(N,)`, or `(R, N)` for R results.

    Returns:
        Float in [0, 1] (not percent), or an array of shape `(R,)`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> round(expected_calibration_error([0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], bins=10), 4)
    0.4
    """
    samples = per_sample(y_true, probabilities, from_logits)
    weights = as_weights(sample_weight, len(samples.correct))
    return as_result(reliability(samples.confidence, samples.correct, weights, bins, binning, convention).error(norm))


def maximum_calibration_error(
    y_true, probabilities, bins=15, binning="width", from_logits=False, convention="guo", sample_weight=None
):
    """Returns the largest gap of a bin, `MCE = max_m |acc(B_m) - conf(B_m)|` (Guo et al. 2017, equation 5).

    It is `expected_calibration_error` with `norm="max"`; a bin with a single sample counts like any other.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        bins: Number of bins.
        binning: `"width"` or `"mass"`.
        from_logits: Whether `probabilities` are logits.
        convention: As in `expected_calibration_error`.
        sample_weight: Weights of shape `(N,)`, or `(R, N)` for R results.

    Returns:
        Float in [0, 1], or an array of shape `(R,)`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> round(maximum_calibration_error([0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], bins=10), 4)
    0.8
    """
    return expected_calibration_error(
        y_true, probabilities, bins, binning, "max", from_logits, convention, sample_weight
    )


def debiased_calibration_error(y_true, probabilities, bins=15, binning="mass", from_logits=False, sample_weight=None):
    """Returns the debiased L2 calibration error of the predicted class (Kumar et al. 2019, definition 5.1).

    `E^2 = sum_m |B_m| / N ((acc - conf)^2 - acc (1 - acc) / (|B_m| - 1))`: the plug-in estimate is too large since
    a bin's accuracy is itself estimated; the second term is what that adds on average. Returned is the root of E^2,
    or 0 where noise makes E^2 negative. Bins of one sample or none are left out of the sum.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        bins: Number of bins.
        binning: `"mass"` as its authors, or `"width"`.
        from_logits: Whether `probabilities` are logits.
        sample_weight: Whole numbers, how often each sample is there, of shape `(N,)`, or `(R, N)` for R results.

    Returns:
        Float in [0, 1], or an array of shape `(R,)`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> round(debiased_calibration_error([0, 0, 1, 1], [[0.9, 0.1]] * 4, bins=1), 4)
    0.2769
    """
    samples = per_sample(y_true, probabilities, from_logits)
    weights = as_weights(sample_weight, len(samples.correct))
    if (weights != np.floor(weights)).any():
        raise ValueError(
            f"`sample_weight` must hold whole numbers here. Received: {weights[weights != np.floor(weights)][0]}"
        )
    found = reliability(samples.confidence, samples.correct, weights, bins, binning)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = found.gap**2 - found.accuracy * (1 - found.accuracy) / (found.weight - 1)
    total = np.where(found.weight > 1, found.share * squares, 0.0).sum(axis=-1)
    return as_result(np.sqrt(np.maximum(total, 0)))


def classwise_calibration_error(
    y_true,
    probabilities,
    bins=15,
    binning="width",
    threshold=0.0,
    from_logits=False,
    convention="guo",
    sample_weight=None,
):
    """Returns the calibration error of every class's probability, averaged over classes (Nixon et al. 2019).

    `1/K sum_k sum_m |B_mk| / N_k |acc(B_mk) - conf(B_mk)|`, where acc is the share of samples of class k. With bins
    of equal width it is the static calibration error (SCE), with bins of equal mass the adaptive one (ACE, whose bins
    its authors weigh alike, which differs by ties alone), with a
    threshold on top (its authors' is 1e-3) the thresholded adaptive one (TACE). N_k counts the probabilities of class k
    that are above the threshold; a class with none adds 0.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        bins: Number of bins.
        binning: `"width"` or `"mass"`.
        threshold: Only probabilities above it count, in [0, 1); 0 counts all.
        from_logits: Whether `probabilities` are logits.
        convention: As in `expected_calibration_error`.
        sample_weight: Weights of shape `(N,)`, or `(R, N)` for R results.

    Returns:
        Float in [0, 1], or an array of shape `(R,)`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> round(classwise_calibration_error([0, 1], [[0.8, 0.2], [0.4, 0.6]], bins=5), 4)
    0.3
    """
    check_binning(bins, binning, convention)
    check_number(threshold, "threshold", "[0, 1)")
    samples = per_sample(y_true, probabilities, from_logits)  # checks them
    matrix = as_matrix(probabilities, "probabilities")
    matrix = softmax(matrix).astype(matrix.dtype) if from_logits else np.minimum(matrix, 1)
    labels = as_indices(y_true, *matrix.shape)
    weights = as_weights(sample_weight, len(samples.correct))
    total = np.zeros(weights.shape[:-1])
    for k in range(matrix.shape[1]):
        kept = matrix[:, k] > threshold if threshold else slice(None)
        values, kept_weights = matrix[kept, k], weights[..., kept]
        present = kept_weights.sum(axis=-1) > 0
        if present.any():
            with np.errstate(invalid="ignore"):
                error = reliability(values, labels[kept] == k, kept_weights, bins, binning, convention).error()
            total += np.where(present, error, 0.0)
    return as_result(total / matrix.shape[1])


def uncertainty_calibration_error(y_true, probabilities, bins=15, from_logits=False, sample_weight=None):
    """Returns the uncertainty calibration error (Laves et al. 2019, "Well-calibrated model uncertainty").

    `UCE = sum_m |B_m| / N |err(B_m) - uncert(B_m)|` over equal-width bins of the normalised entropy
    `-sum_k p_k log p_k / log K`; err is the share of wrong predictions, uncert the mean normalised entropy.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        bins: Number of bins.
        from_logits: Whether `probabilities` are logits.
        sample_weight: Weights of shape `(N,)`, or `(R, N)` for R results.

    Returns:
        Float in [0, 1], or an array of shape `(R,)`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> uncertainty_calibration_error([0, 1], [[0.5, 0.5], [0.5, 0.5]])
    0.5
    """
    samples = per_sample(y_true, probabilities, from_logits)
    weights = as_weights(sample_weight, len(samples.correct))
    return as_result(reliability(samples.uncertainty, ~samples.correct, weights, bins).error())


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
    samples = per_sample(y_true, probabilities, from_logits)
    return _mean(samples.brier, as_weights(sample_weight, len(samples.correct)))


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
    samples = per_sample(y_true, probabilities, from_logits)
    return _mean(_top_squares(samples), as_weights(sample_weight, len(samples.correct)))


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
    samples = per_sample(y_true, probabilities, from_logits)
    return _mean(samples.nll, as_weights(sample_weight, len(samples.correct)))


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
    samples = per_sample(y_true, probabilities, from_logits)
    return _area_under_risk_coverage(samples, as_weights(sample_weight, len(samples.correct)))


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
    samples = per_sample(y_true, probabilities, from_logits)
    weights = as_weights(sample_weight, len(samples.correct))
    confident = reliability(samples.confidence, samples.correct, weights, bins, "width", convention)
    uncertain = reliability(samples.uncertainty, ~samples.correct, weights, bins)
    return {
        "accuracy": _mean(samples.correct, weights),
        "ece": as_result(confident.error()),
        "mce": as_result(confident.error("max")),
        "uce": as_result(uncertain.error()),
        "nll": _mean(samples.nll, weights),
        "brier": _mean(samples.brier, weights),
        "brier_top": _mean(_top_squares(samples), weights),
        "aurc": _area_under_risk_coverage(samples, weights),
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
    return percentile_interval(
        lambda weights: metric(y_true, probabilities, sample_weight=weights, **options),
        [len(probabilities)],
        n,
        level,
        seed,
    )


def _accuracy_interval(level, y_true, probabilities, from_logits=False):
    correct = per_sample(y_true, probabilities, from_logits).correct
    return proportion_interval(int(correct.sum()), len(correct), level)


def _confidence_interval(
    level, y_true, probabilities, bins=15, binning="width", norm=1, from_logits=False, convention="guo"
):
    samples = per_sample(y_true, probabilities, from_logits)
    return error_interval(samples.confidence, samples.correct, level, bins, binning, convention)


def _uncertainty_interval(level, y_true, probabilities, bins=15, from_logits=False):
    samples = per_sample(y_true, probabilities, from_logits)
    return error_interval(samples.uncertainty, ~samples.correct, level, bins)


_CLOSED = {
    accuracy: _accuracy_interval,
    expected_calibration_error: _confidence_interval,
    uncertainty_calibration_error: _uncertainty_interval,
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
    samples = per_sample(y_true, probabilities, from_logits)
    _, covered, risk, last = _risks(samples, np.ones(len(samples.correct)))
    distinct = np.unique(last)
    return covered[distinct] / covered[-1], risk[distinct]


def _risks(samples, weights):
    """Returns, most confident sample first: weights, covered weight and risk so far, and the last of its equals."""
    order = np.argsort(-samples.confidence)
    descending = -samples.confidence[order]
    weights = weights[..., order]
    covered = np.cumsum(weights, axis=-1)
    wrong = np.cumsum(weights * ~samples.correct[order], axis=-1)
    with np.errstate(invalid="ignore"):
        risk = np.where(covered > 0, wrong / covered, 0.0)
    return weights, covered, risk, np.searchsorted(descending, descending, side="right") - 1


def _area_under_risk_coverage(samples, weights):
    weights, covered, risk, last = _risks(samples, weights)
    return as_result((weights * risk[..., last]).sum(axis=-1) / covered[..., -1])


def _top_squares(samples):
    return (samples.confidence.astype(np.float64) - samples.correct) ** 2


def _mean(values, weights):
    with np.errstate(invalid="ignore"):
        weighted = np.where(weights > 0, weights * values, 0.0) if np.isinf(values).any() else weights * values
    return as_result(weighted.sum(axis=-1) / weights.sum(axis=-1))


METRICS = {
    "accuracy": accuracy,
    "ece": expected_calibration_error,
    "mce": maximum_calibration_error,
    "rmsce": partial(expected_calibration_error, norm=2),
    "debiased": debiased_calibration_error,
    "classwise": classwise_calibration_error,
    "uce": uncertainty_calibration_error,
    "brier": brier_score,
    "brier_top": brier_top,
    "nll": negative_log_likelihood,
    "aurc": area_under_risk_coverage,
}
