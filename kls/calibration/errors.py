"""Binned calibration errors on arrays: how far confidences are from what comes true.

Labels, predictions and weights are as in `kls.calibration.metrics`.
"""

import numpy as np

from kls.calibration.reliability import check_binning, reliability
from kls.calibration.samples import as_indices, as_matrix, as_result, per_sample, softmax
from kls.utils.arrays import check_number


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
    samples = per_sample(y_true, probabilities, from_logits, sample_weight)
    return reliability(samples.confidence, samples.correct, samples.weights, bins, binning, convention).error(norm)


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
    samples = per_sample(y_true, probabilities, from_logits, sample_weight)
    broken = samples.weights[samples.weights != np.floor(samples.weights)]
    if len(broken):
        raise ValueError(f"`sample_weight` must hold whole numbers here. Received: {broken[0]}")
    found = reliability(samples.confidence, samples.correct, samples.weights, bins, binning)
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
    weights = per_sample(y_true, probabilities, from_logits, sample_weight).weights  # all four are checked
    matrix = as_matrix(probabilities, "probabilities")
    matrix = softmax(matrix).astype(matrix.dtype) if from_logits else np.minimum(matrix, 1)
    labels = as_indices(y_true, *matrix.shape)
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
    samples = per_sample(y_true, probabilities, from_logits, sample_weight)
    return reliability(samples.uncertainty, ~samples.correct, samples.weights, bins).error()
