"""Metrics of OOD detection on scores: how well do scores tell in-distribution (ID) from
out-of-distribution (OOD) samples?

All take the scores of ID and of OOD samples, arrays of shape `(N,)` and `(M,)`, larger = more in-distribution.
Packages take different sides in some of them, which `convention` says:

- `"odin"`: the false positive rate is that of OOD samples where 95 % of the ID samples pass (Liang et al. 2018), and
  AUPR is average precision, as scikit-learn recommends it.
- `"openood"`: as in OpenOOD (Yang et al. 2022), PyTorch-OOD and the code of outlier exposure. The false positive rate
  is that of ID samples where 95 % of the OOD samples are found. AUPR is an area by trapezoids, in OpenOOD and
  PyTorch-OOD.

AUROC is the same in both. Where scores tie, OpenOOD's code can skip a point of the curve (`drop_intermediate` of
scikit-learn's `roc_curve`) and report the false positive rate of the next one; here no point is skipped.

`sample_weight=(ID weights, OOD weights)`, of shapes `(N,)` and `(M,)`, weighs samples; of shapes `(R, N)` and `(R, M)`
it gives an array of R results, which is how `interval` resamples. One sort, no loop over thresholds.

Defined corners: an empty side or a NaN score raises `ValueError` (infinite scores are allowed); where all scores are
equal AUROC is 0.5, the AUPRs the shares of their positive class, and the false positive rate 1.
"""

import math

import numpy as np

from kls.calibration.samples import as_result, as_weights
from kls.utils.arrays import as_numbers, check_choice, check_number
from kls.utils.bootstrap import check_resampling, percentile_interval
from kls.utils.proportions import METHOD, clopper_pearson, square_and_add

CONVENTIONS = ("odin", "openood")


def auroc(id_scores, ood_scores, sample_weight=None):
    """Returns the area under the receiver operating characteristic.

    The probability that an ID sample scores higher than an OOD one, ties counted half (Mann-Whitney).

    Args:
        id_scores: Scores of ID samples, the positive class, shape `(N,)`.
        ood_scores: Scores of OOD samples, shape `(M,)`.
        sample_weight: Pair of weights of shapes `(N,)` and `(M,)`, or `(R, N)` and `(R, M)` for R results.

    Returns:
        Float in [0, 1], or an array of shape `(R,)`; 0.5 where all scores are equal.

    Raises:
        ValueError: If a side is empty or holds NaN.

    Example:

    >>> auroc([3.0, 2.0], [1.0, 2.0])
    0.875
    """
    id_scores, ood_scores, id_weight, ood_weight = _checked(id_scores, ood_scores, sample_weight)
    order = np.argsort(ood_scores)
    mass = np.cumsum(ood_weight[..., order], axis=-1)
    mass = np.concatenate([np.zeros_like(mass[..., :1]), mass], axis=-1)
    lower, lower_or_equal = (np.searchsorted(ood_scores[order], id_scores, side) for side in ("left", "right"))
    beaten = mass[..., lower]
    if (lower != lower_or_equal).any():
        beaten = (beaten + mass[..., lower_or_equal]) / 2
    pairs = id_weight.sum(axis=-1) * mass[..., -1]
    return as_result((id_weight * beaten).sum(axis=-1) / pairs)


def aupr_in(id_scores, ood_scores, sample_weight=None, convention="odin"):
    """Returns the area under the precision-recall curve with the ID samples as positives.

    Average precision, `sum_t (recall_t - recall_{t-1}) precision_t` over the distinct thresholds from the highest down,
    as in `sklearn.metrics.average_precision_score`: no interpolation. With `convention="openood"` the area under
    straight lines between these points, from a precision of 1 at a recall of 0, which flatters (Davis & Goadrich
    2006).

    Args:
        id_scores: Scores of ID samples, shape `(N,)`.
        ood_scores: Scores of OOD samples, shape `(M,)`.
        sample_weight: As in `auroc`.
        convention: `"odin"` for average precision, `"openood"` for trapezoids.

    Returns:
        Float in [0, 1], or an array of shape `(R,)`.

    Raises:
        ValueError: If a side is empty or holds NaN, or the convention is none.

    Example:

    >>> aupr_in([3.0, 2.0], [1.0])
    1.0
    """
    check_choice(convention, "convention", CONVENTIONS)
    positives, negatives = _curve(id_scores, ood_scores, sample_weight)
    total = positives + negatives
    precision = np.divide(positives, total, out=np.ones_like(total), where=total > 0)
    if convention == "openood":
        precision = (precision + np.concatenate([np.ones_like(total[..., :1]), precision[..., :-1]], axis=-1)) / 2
    steps = np.diff(positives, axis=-1, prepend=0)
    return as_result((steps * precision).sum(axis=-1) / positives[..., -1])


def aupr_out(id_scores, ood_scores, sample_weight=None, convention="odin"):
    """Returns the area under the precision-recall curve with the OOD samples as positives.

    As `aupr_in`, over thresholds from the lowest score up.

    Args:
        id_scores: Scores of ID samples, shape `(N,)`.
        ood_scores: Scores of OOD samples, shape `(M,)`.
        sample_weight: As in `auroc`.
        convention: `"odin"` for average precision, `"openood"` for trapezoids.

    Returns:
        Float in [0, 1], or an array of shape `(R,)`.

    Raises:
        ValueError: If a side is empty or holds NaN, or the convention is none.

    Example:

    >>> round(aupr_out([3.0, 1.0], [2.0]), 4)
    0.5
    """
    return aupr_in(*_swapped(id_scores, ood_scores, sample_weight), convention)


def fpr_at_tpr(id_scores, ood_scores, tpr=0.95, sample_weight=None, convention="odin"):
    """Returns the share of OOD samples at or above the threshold that keeps a share of the ID samples.

    The threshold is the highest ID score at which at least `tpr` of the ID samples lie at or above it.
    With `convention="openood"` the sides are changed: the share of ID samples at or below the threshold that
    finds a share `tpr` of the OOD samples. The two numbers of one pair of samples can be far apart.

    Args:
        id_scores: Scores of ID samples, shape `(N,)`.
        ood_scores: Scores of OOD samples, shape `(M,)`.
        tpr: Share of the positive side to keep, in (0, 1].
        sample_weight: As in `auroc`.
        convention: Which side is positive: `"odin"` ID, `"openood"` OOD.

    Returns:
        Float in [0, 1], or an array of shape `(R,)`; 1 where all scores are equal.

    Raises:
        ValueError: If a side is empty or holds NaN, `tpr` is outside (0, 1], or the convention is none.

    Example:

    >>> fpr_at_tpr([4.0, 3.0, 2.0, 1.0], [2.5, 0.5], tpr=0.75)
    0.5
    """
    check_number(tpr, "tpr", "(0, 1]")
    if check_choice(convention, "convention", CONVENTIONS) == "openood":
        id_scores, ood_scores, sample_weight = _swapped(id_scores, ood_scores, sample_weight)
    true, false = _curve(id_scores, ood_scores, sample_weight)
    kept = true >= tpr * true[..., -1:] * (1 - 1e-12)
    first = np.argmax(kept, axis=-1)[..., None]
    return as_result((np.take_along_axis(false, first, -1) / false[..., -1:])[..., 0])


def detection_threshold(id_scores, ood_scores):
    """Returns the score that tells validation samples apart best: the threshold of the largest detection accuracy.

    Args:
        id_scores: Scores of ID validation samples, shape `(N,)`.
        ood_scores: Scores of OOD validation samples, shape `(M,)`.

    Returns:
        Float; samples at or above it count as ID. The highest of equally good ones.

    Raises:
        ValueError: If a side is empty or holds NaN.

    Example:

    >>> detection_threshold([3.0, 2.0], [1.0, 0.0])
    2.0
    """
    id_scores, ood_scores = as_scores(id_scores, "id_scores"), as_scores(ood_scores, "ood_scores")
    true, false = _curve(id_scores, ood_scores, None)
    thresholds = np.unique(np.concatenate([id_scores, ood_scores]))[::-1]
    return float(thresholds[np.argmax(true * false[-1] - false * true[-1])])  # whole numbers: ties are ties


def detection_accuracy(id_scores, ood_scores, threshold, sample_weight=None):
    """Returns the detection accuracy, `(TPR + TNR) / 2`, at a threshold chosen on other data.

    Both sides count alike, however many samples they have (Liang et al. 2018). Choose the threshold on validation data
    with `detection_threshold`: on the data it is chosen on it flatters.

    Args:
        id_scores: Scores of ID samples, shape `(N,)`.
        ood_scores: Scores of OOD samples, shape `(M,)`.
        threshold: Samples at or above it count as ID.
        sample_weight: As in `auroc`.

    Returns:
        Float in [0, 1], or an array of shape `(R,)`.

    Raises:
        ValueError: If a side is empty or holds NaN, or the threshold is NaN.

    Example:

    >>> detection_accuracy([3.0, 2.0], [1.0, 2.5], threshold=2.0)
    0.75
    """
    check_number(threshold, "threshold", "[-inf, inf]")
    id_scores, ood_scores, id_weight, ood_weight = _checked(id_scores, ood_scores, sample_weight)
    kept = (id_weight * (id_scores >= threshold)).sum(axis=-1) / id_weight.sum(axis=-1)
    refused = (ood_weight * (ood_scores < threshold)).sum(axis=-1) / ood_weight.sum(axis=-1)
    return as_result((kept + refused) / 2)


def roc(id_scores, ood_scores):
    """Returns the receiver operating characteristic: `(false positive rates, true positive rates)`.

    From (0, 0) to (1, 1), a point per distinct score.

    Args:
        id_scores: Scores of ID samples, the positive class, shape `(N,)`.
        ood_scores: Scores of OOD samples, shape `(M,)`.

    Returns:
        Two arrays of one more than the number of distinct scores.

    Raises:
        ValueError: If a side is empty or holds NaN.

    Example:

    >>> false_rate, true_rate = roc([3.0, 2.0], [1.0])
    >>> false_rate.tolist(), true_rate.tolist()
    ([0.0, 0.0, 0.0, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    true, false = _curve(id_scores, ood_scores, None)
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])


def interval(metric, id_scores, ood_scores, n=1000, level=0.95, seed=0, **options):
    """Returns a metric with its confidence interval.

    The false positive rate has one that holds without any assumption on the scores: of the share at the threshold
    (Clopper & Pearson 1934), and of the threshold, which is a quantile of the positive side, by order statistics. With
    fewer than 72 positive samples the 95 % interval of their 5 % quantile has no end, and the rate may be anything up
    to 1. Detection accuracy has that of its two shares. All else is resampled, each side on its own;
    of an AUROC or AUPR near 1 such intervals are too narrow (docs/coverage.md).

    Args:
        metric: A function of this module that returns a number.
        id_scores: Scores of ID samples, shape `(N,)`.
        ood_scores: Scores of OOD samples, shape `(M,)`.
        n: Number of resamples.
        level: Confidence level, in (0, 1).
        seed: Integer from which the resamples are drawn.
        **options: Further arguments of the metric, but `sample_weight`, which the resamples are.

    Returns:
        A `kls.calibration.Interval`; its `n` is 0 where nothing is resampled.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> found = interval(auroc, [2.0, 3.0, 4.0], [0.0, 1.0, 3.5], n=100)
    >>> found.low <= found.value <= found.high
    True
    """
    check_resampling(metric, n, level, seed)
    id_scores, ood_scores = as_scores(id_scores, "id_scores"), as_scores(ood_scores, "ood_scores")
    if metric in _CLOSED:
        return _CLOSED[metric](level, id_scores, ood_scores, **options)

    def resampled(*weights):
        return metric(id_scores, ood_scores, sample_weight=weights, **options)

    return percentile_interval(resampled, [len(id_scores), len(ood_scores)], n, level, seed)


def _rate_interval(level, id_scores, ood_scores, tpr=0.95, convention="odin"):
    """Returns the `Interval` of a false positive rate."""
    from scipy.stats import binom

    value = fpr_at_tpr(id_scores, ood_scores, tpr, convention=convention)
    if convention == "openood":
        id_scores, ood_scores, _ = _swapped(id_scores, ood_scores, None)
    ordered = np.concatenate([[-math.inf], np.sort(id_scores), [math.inf]])
    below = binom(len(id_scores), 1 - tpr)  # how many samples lie below the true quantile
    tail = (1 - level) / 2
    lowest, highest = ordered[int(below.ppf(tail))], ordered[int(below.isf(tail)) + 1]
    of_threshold = (ood_scores >= highest).mean(), (ood_scores >= lowest).mean()
    of_share = clopper_pearson(round(value * len(ood_scores)), len(ood_scores), level)
    return square_and_add(value, (of_share, of_threshold), level, f"{METHOD}, order statistics")


def _accuracy_interval(level, id_scores, ood_scores, threshold):
    """Returns the `Interval` of a detection accuracy."""
    value = detection_accuracy(id_scores, ood_scores, threshold)
    ends = []
    for right in (id_scores >= threshold, ood_scores < threshold):
        low, high = clopper_pearson(int(right.sum()), len(right), level)
        ends.append((value + (low - right.mean()) / 2, value + (high - right.mean()) / 2))
    return square_and_add(value, ends, level, METHOD)


_CLOSED = {fpr_at_tpr: _rate_interval, detection_accuracy: _accuracy_interval}


def _curve(id_scores, ood_scores, sample_weight):
    """Returns the weight of ID and of OOD samples at or above each distinct score, the highest first."""
    id_scores, ood_scores, id_weight, ood_weight = _checked(id_scores, ood_scores, sample_weight)
    scores = np.concatenate([id_scores, ood_scores])
    order = np.argsort(scores)[::-1]
    ordered = scores[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    is_id = order < len(id_scores)
    weight = np.concatenate([id_weight, ood_weight], axis=-1)[..., order]
    true = np.cumsum(weight * is_id, axis=-1)[..., last]
    false = np.cumsum(weight * ~is_id, axis=-1)[..., last]
    return true, false


def _checked(id_scores, ood_scores, sample_weight):
    id_scores, ood_scores = as_scores(id_scores, "id_scores"), as_scores(ood_scores, "ood_scores")
    if sample_weight is None:
        return id_scores, ood_scores, np.ones(len(id_scores)), np.ones(len(ood_scores))
    if not isinstance(sample_weight, tuple | list) or len(sample_weight) != 2:
        raise ValueError(
            f"`sample_weight` must be a pair of the ID and the OOD weights. Received: {type(sample_weight).__name__}"
        )
    weights = as_weights(sample_weight[0], len(id_scores)), as_weights(sample_weight[1], len(ood_scores))
    if weights[0].shape[:-1] != weights[1].shape[:-1]:
        raise ValueError(
            "`sample_weight` must hold weights of shapes (N,) and (M,), or (R, N) and (R, M). "
            f"Received: {weights[0].shape} and {weights[1].shape}"
        )
    return id_scores, ood_scores, *weights


def _swapped(id_scores, ood_scores, sample_weight):
    """Returns the arguments with ID and OOD samples exchanged."""
    id_scores, ood_scores = as_scores(id_scores, "id_scores"), as_scores(ood_scores, "ood_scores")
    return -ood_scores, -id_scores, sample_weight[::-1] if isinstance(sample_weight, tuple | list) else sample_weight


def as_scores(values, name, least=1):
    """Returns scores as float64 of shape `(N,)`.

    Args:
        values: Array or tensor.
        name: Its name in error messages.
        least: The least N.

    Raises:
        ValueError: If they are no real numbers, of another shape, fewer, or if one is NaN.
    """
    scores = as_numbers(values, name).astype(np.float64, copy=False)
    if scores.ndim != 1 or len(scores) < least:
        raise ValueError(f"`{name}` must hold scores of shape (N,) with N >= {least}. Received: shape {scores.shape}")
    wrong = np.flatnonzero(np.isnan(scores))
    if len(wrong):
        raise ValueError(f"`{name}` must not hold NaN. Received: {len(wrong)} of them, the first at {wrong[0]}")
    return scores


METRICS = {"auroc": auroc, "aupr_in": aupr_in, "aupr_out": aupr_out, "fpr95": fpr_at_tpr}

MEANINGS = {
    ("aupr_in", "odin"): "average precision with ID samples as positives",
    ("aupr_in", "openood"): "area under the precision-recall curve by trapezoids with ID samples as positives",
    ("aupr_out", "odin"): "average precision with OOD samples as positives",
    ("aupr_out", "openood"): "area under the precision-recall curve by trapezoids with OOD samples as positives",
    ("fpr95", "odin"): "share of OOD samples that pass for ID at the threshold that keeps 95 % of the ID samples",
    ("fpr95", "openood"): "share of ID samples taken for OOD at the threshold that finds 95 % of the OOD samples",
}
