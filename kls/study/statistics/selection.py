"""The best of several methods, chosen on other images than it is judged on."""

from dataclasses import dataclass

import numpy as np

from kls.study.statistics.comparison import Comparison, check_arguments, differences_moments, values_of
from kls.study.statistics.uncertainty import uncertainties
from kls.utils.arrays import check_whole

VALIDATION, HALVES = "chosen on validation images", "chosen on one half of the images, judged on the other"


@dataclass(frozen=True)
class Selection:
    """A method that was selected as the best, and what selecting it brings.

    Attributes:
        method: Its name.
        shares: `{name: share}`: how often each method was the best, over seeds and, without validation images, halves.
        comparison: The `Comparison` of what was selected with the baseline, on images and seeds that did not select it.
        how: On what it was chosen and judged, in words.
    """

    method: str
    shares: dict
    comparison: Comparison
    how: str


def select(metric, baseline, methods, validation=None, repeats=20, level=0.95, margin=None, resamples=1000, seed=0):
    """Selects the best of several methods and compares it with the baseline.

    A winner that is judged on the images that it won on is flattered, and so is one judged on its own seeds. With
    `validation` the choice is made there and judged on the images of `baseline` and `methods`. Without, these are
    halved at random, each half chooses for the other, and this is repeated. In both cases each seed is judged as what
    the other seeds choose; a single seed chooses for itself.

    Args:
        metric: Name of a metric of `METRICS`.
        baseline: `Predictions`, or for AUROC and FPR `Scores`.
        methods: `{name: what the baseline is}`.
        validation: The pair `(baseline, methods)` of the same networks on validation images.
        repeats: How often to halve the images where there is no validation.
        level: Confidence level, in (0.5, 1).
        margin: As in `compare`.
        resamples: As in `compare`.
        seed: Integer that halves and resamples are drawn from.

    Returns:
        A `Selection`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> from kls.study.statistics import Predictions
    >>> rng = np.random.default_rng(0)
    >>> labels, noise = rng.integers(0, 3, 500), rng.normal(0, 1, (3, 500, 3))
    >>> methods = {f"{scale}": Predictions(labels, scale * np.eye(3)[labels] + noise) for scale in (1, 3)}
    >>> select("accuracy", Predictions(labels, 2 * np.eye(3)[labels] + noise), methods).method
    '3'
    """
    chosen, margin = check_arguments(metric, baseline, methods, level, margin, resamples, seed)
    check_whole(repeats, "repeats", 1)
    sampled = chosen.sampled([baseline, *methods.values()])
    if validation is None:
        judged = values_of(sampled, baseline.n, _halves(sampled.sizes, repeats, seed))
        choosing, how = np.roll(judged, repeats, axis=2), HALVES
    else:
        judged = values_of(sampled, baseline.n)
        choosing, how = _on_validation(metric, baseline, methods, *validation), VALIDATION
    gains = (choosing[1:] - choosing[0]) * (1 if chosen.larger_is_better else -1)
    picked = _best_by_others(gains)
    difference = np.take_along_axis(judged[1:] - judged[0], picked[None], axis=0)[0].mean(axis=1)
    shares = np.stack([(picked == index).mean(axis=1) for index in range(len(methods))])
    mixing = (shares.T[:, :, None] * np.eye(baseline.n)[:, None, :]).reshape(baseline.n, -1)
    bias, covariance = differences_moments(sampled, baseline.n, resamples, seed)
    bias, covariance = mixing @ bias, mixing @ covariance @ mixing.T
    (found,) = uncertainties(difference[None], bias, covariance, baseline.size, sampled.resampled, chosen.unseen)
    start = float(judged[0].mean())
    return Selection(
        list(methods)[int(gains.mean(axis=(1, 2)).argmax())],
        dict(zip(methods, shares.mean(axis=1).tolist(), strict=True)),
        Comparison(metric, start, start + float(difference.mean()), found, level, level, margin),
        how,
    )


def _on_validation(metric, baseline, methods, validation_baseline, validation_methods):
    chosen, _ = check_arguments(metric, validation_baseline, validation_methods, 0.95, None, 2, 0)
    received = list(validation_methods), validation_baseline.n
    if received != (list(methods), baseline.n):
        raise ValueError(
            f"`validation` must be of the methods {list(methods)} with {baseline.n} seeds. "
            f"Received: {received[0]} with {received[1]} seeds"
        )
    sampled = chosen.sampled([validation_baseline, *validation_methods.values()])
    return values_of(sampled, baseline.n)


def _halves(sizes, repeats, seed):
    """Returns 0-1 weights of shape `(N, 2 repeats)` per set: halves, then in the same order the other halves."""
    rng = np.random.default_rng(seed)
    found = []
    for size in sizes:
        first = rng.permuted(np.tile(np.arange(size)[:, None] < size // 2, (1, repeats)), axis=0)
        found.append(np.concatenate([first, ~first], axis=1).astype(np.float64))
    return found


def _best_by_others(gains):
    """Returns the index of the best method by the mean over all seeds but one, of shape `(n, F)`, from `(M, n, F)`."""
    n = gains.shape[1]
    others = gains if n == 1 else (gains.sum(axis=1, keepdims=True) - gains) / (n - 1)
    return others.argmax(axis=0)
