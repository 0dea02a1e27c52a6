"""Methods against a baseline: the difference, its confidence interval, and one of four words."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from kls.study.statistics.metrics import METRICS, metric_of
from kls.study.statistics.uncertainty import Uncertainty, simultaneous_level, uncertainties
from kls.utils.arrays import check_number, check_whole, shown

BETTER, WORSE, SAME, UNKNOWN = "better", "worse", "practically the same", "cannot tell"


@dataclass(frozen=True)
class Comparison:
    """A method against the baseline by one metric, all numbers as fractions or in nats.

    Attributes:
        metric: Name of the metric.
        baseline: The baseline's mean over seeds.
        value: The method's.
        uncertainty: The `Uncertainty` of their difference.
        level: Confidence level at which the intervals of all methods hold at once.
        single: Level of this interval on its own: `level`, more where several methods were compared.
        margin: A difference that is too little to matter.
    """

    metric: str
    baseline: float
    value: float
    uncertainty: Uncertainty
    level: float
    single: float
    margin: float

    @property
    def difference(self):
        """The method's mean minus the baseline's."""
        return self.value - self.baseline

    @property
    def low(self):
        """Lower end of the confidence interval of the difference, for new seeds and new images."""
        return self.difference - self.uncertainty.reach(self.single)[0]

    @property
    def high(self):
        """Upper end."""
        return self.difference + self.uncertainty.reach(self.single)[1]

    @property
    def images_only(self):
        """Whether there is one seed, so that the interval is for new images alone."""
        return self.uncertainty.n == 1

    @property
    def word(self):
        """One of better, worse, practically the same, cannot tell.

        Practically the same: two tests at the interval's error, that the difference is not above and not below the
        margin (TOST, Schuirmann 1987), so the 90 % interval of a 95 % one is inside. It comes first: a difference that
        is sure to be there may still be too little to matter. One seed cannot tell between trainings.
        """
        if self.images_only:
            return UNKNOWN
        below, above = self.uncertainty.reach(2 * self.single - 1)
        if -self.margin < self.difference - below and self.difference + above < self.margin:
            return SAME
        if self.low <= 0 <= self.high:
            return UNKNOWN
        return BETTER if (self.difference > 0) == METRICS[self.metric].larger_is_better else WORSE

    @property
    def seeds_needed(self):
        """Number of seeds with which one of the other words is to be expected on as many images, else `None`.

        An interval that is no wider than the margin excludes 0 or the margin, whatever the difference.
        """
        return self.uncertainty.seeds_needed(self.margin, self.single)

    @property
    def images_needed(self):
        """What `seeds_needed` is, of images with as many seeds; of several sets the smallest, if all grow alike."""
        return self.uncertainty.images_needed(self.margin, self.single)

    def __str__(self):
        metric = METRICS[self.metric]
        ends = f"[{metric.shown(self.low, '+')}, {metric.shown(self.high, '+')}]"
        difference = " ".join([metric.shown(self.difference, "+"), *([metric.unit] if metric.unit else [])])
        return f"{metric.heading} {difference} {ends}: {self.word}{self._needed()}"

    def _needed(self):
        if self.word != UNKNOWN:
            return ""
        if self.images_only:
            return " between trainings: one seed, and the interval is for new images alone"
        wanted = counts(self.seeds_needed, self.images_needed)
        if wanted:
            return f"; with {' or '.join(wanted)} one could"
        return "; it takes both more seeds and more images"


def counts(seeds, images):
    """Returns numbers of seeds and of images as texts, without those that are `None`."""
    return [f"{count:,} {what}" for what, count in (("seeds", seeds), ("images", images)) if count is not None]


def compare(metric, baseline, methods, level=0.95, margin=None, resamples=1000, seed=0):
    """Compares methods with a baseline by one metric.

    The seeds of all are paired, and all are judged on the same images. Intervals are for new seeds and new images, and
    hold for all methods at once.

    Args:
        metric: Name of a metric of `METRICS`.
        baseline: `Predictions`, or for AUROC and FPR `Scores`.
        methods: `{name: what the baseline is}`.
        level: Confidence level, in (0.5, 1).
        margin: A difference that is too little to matter, as a fraction or in nats; the metric's own by default.
        resamples: Number of resamples, for the metrics that need them: ECE, classwise ECE and FPR.
        seed: Integer that they are drawn from.

    Returns:
        `{name: Comparison}`.

    Raises:
        ValueError: If an argument is not as above: no baseline, other seeds or images, NaN.

    Example:

    >>> from kls.study.statistics import Predictions
    >>> rng = np.random.default_rng(0)
    >>> labels, noise = rng.integers(0, 3, 500), rng.normal(0, 1, (3, 500, 3))
    >>> logits = 2 * np.eye(3)[labels] + noise
    >>> found = compare("nll", Predictions(labels, logits), {"sharp": Predictions(labels, 2 * logits)})
    >>> print(found["sharp"])
    NLL -0.0847 nats [-0.1380, -0.0314]: better
    """
    chosen, margin = check_arguments(metric, baseline, methods, level, margin, resamples, seed)
    sampled = chosen.sampled([baseline, *methods.values()])
    values = values_of(sampled, baseline.n)[..., 0]
    bias, covariance = differences_moments(sampled, baseline.n, resamples, seed)
    found = uncertainties(values[1:] - values[0], bias, covariance, baseline.size, sampled.resampled, chosen.unseen)
    single = simultaneous_level(found, covariance, level, seed)
    means = values.mean(axis=1).tolist()
    return {
        name: Comparison(metric, means[0], mean, uncertainty, level, single, margin)
        for name, mean, uncertainty in zip(methods, means[1:], found, strict=True)
    }


def check_arguments(metric, baseline, methods, level, margin, resamples, seed):
    """Returns the `Metric` and the margin; raises `ValueError` unless the arguments are as `compare` says."""
    chosen = metric_of(metric)
    check_number(level, "level", "(0.5, 1)")
    check_whole(resamples, "resamples", 2)
    check_whole(seed, "seed", 0)
    _check_kind(baseline, "baseline", metric, chosen)
    if not isinstance(methods, dict) or not methods:
        raise ValueError(f"`methods` must be a dictionary with a method at least. Received: {shown(methods)}")
    for name, method in methods.items():
        _check_kind(method, f"methods[{name!r}]", metric, chosen)
        if (mismatch := method.mismatch(baseline)) is not None:
            wanted, received = mismatch
            raise ValueError(f"`methods[{name!r}]` must have the baseline's {wanted}. Received: {received}")
    return chosen, chosen.margin if margin is None else check_number(margin, "margin", "(0, inf)")


def values_of(sampled, n, weights=None):
    """Returns the metric of the baseline's and the methods' networks, `(M + 1, n, R)`; on all images by default."""
    values = sampled.on_all() if weights is None else sampled.values(weights)
    if not np.isfinite(values).all():
        raise ValueError("`logits` must give no true class a probability of 0 here. Received: an infinite mean loss")
    return values.reshape(-1, n, values.shape[1])


def differences_moments(sampled, n, resamples, seed):
    """Returns bias, `(M n,)`, and covariance, `(M n, M n)`, of the networks' differences from the baseline."""
    bias, covariance = sampled.moments(resamples, seed)
    contrast = np.concatenate([np.tile(-np.eye(n), (len(bias) // n - 1, 1)), np.eye(len(bias) - n)], axis=1)
    return contrast @ bias, contrast @ covariance @ contrast.T


def mcnemar(baseline, method):
    """Returns the p-value of McNemar's exact test that two networks are right equally often.

    A cross-check for one seed: of the images on which one network alone is right, half would be the method's.

    Args:
        baseline: `Predictions` of one network.
        method: `Predictions` of another on the same images.

    Raises:
        ValueError: If there is more than one seed, or if they are of other images.
    """
    check_arguments("accuracy", baseline, {"method": method}, 0.95, None, 2, 0)
    if baseline.n != 1:
        raise ValueError(f"`baseline` must be of one seed for McNemar's test. Received: {baseline.n}")
    first, second = (one.logits[0].argmax(axis=-1) == one.labels for one in (baseline, method))
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _check_kind(value, name, metric, chosen):
    if not isinstance(value, chosen.takes):
        raise ValueError(f"`{name}` must be {chosen.takes.__name__} for {metric!r}. Received: {shown(value)}")
