"""Bootstrap confidence intervals by sample weights: a resample is how often each sample was drawn."""

from dataclasses import dataclass

import numpy as np

from kls.utils.arrays import check_number, check_whole, shown

NARROW = {  # where the bootstrap intervals of which metrics hold too seldom: docs/coverage.md
    "": ("mce",),
    " of a nearly calibrated network": ("rmsce", "classwise"),
    " near 100 %": ("auroc", "aupr"),
}
CHUNK = 1 << 23  # weights that are in memory at once


@dataclass(frozen=True)
class Interval:
    """A metric with its confidence interval.

    Attributes:
        value: The metric on all samples.
        low: Lower end of the confidence interval.
        high: Upper end.
        level: Confidence level; of a bootstrap confidence interval the share of the resamples within it.
        n: Number of resamples, 0 where none are needed.
        method: How the interval was found.
    """

    value: float
    low: float
    high: float
    level: float
    n: int
    method: str = "bootstrap"

    def __str__(self):
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def percentile_interval(metric, sizes, n, level, seed):
    """Returns the bootstrap confidence interval of a metric of one or more sets of samples.

    Its ends are percentiles of the metric on resamples (Efron 1979), minus the bootstrap's estimate of the bias, the
    mean over the resamples minus the value on all samples. For means the bias is next to nothing; binned errors come
    out larger on fewer distinct samples, and without the correction the value itself could lie below its interval. The
    interval always holds the value, and ends at 0 or at the largest value seen.

    Args:
        metric: Function of one array of weights per set, each of shape `(R, N)`, to an array of shape `(R,)`.
        sizes: N of each set; each is resampled on its own.
        n: Number of resamples.
        level: Share of the resamples within the interval, in (0, 1).
        seed: Integer from which the resamples are drawn.

    Returns:
        An `Interval`.
    """
    check_resampling(metric, n, level, seed)
    rng = np.random.default_rng(seed)
    (value,) = metric(*(np.ones((1, size)) for size in sizes))
    rows = max(1, CHUNK // sum(sizes))
    drawn = [metric(*(resample(rng, min(rows, n - start), size) for size in sizes)) for start in range(0, n, rows)]
    return interval_of(value, np.concatenate(drawn), level, lowest=0.0)


def check_resampling(metric, n, level, seed):
    """Raises `ValueError` unless these are a function, a number of resamples, a confidence level and a seed."""
    if not callable(metric):
        raise ValueError(f"`metric` must be a function. Received: metric={shown(metric)}")
    check_whole(n, "n", 1)
    check_number(level, "level", "(0, 1)")
    check_whole(seed, "seed", 0)


def interval_of(value, drawn, level=0.95, lowest=None):
    """Returns the `Interval` of a value from what it was on resamples, as `percentile_interval` describes it.

    Args:
        value: The value on all samples.
        drawn: Its values on the resamples, shape `(n,)`.
        level: Share of the resamples within the interval, in (0, 1).
        lowest: The least that the value can be; the least of the resamples by default.

    Example:

    >>> print(interval_of(0.5, np.linspace(0.0, 1.0, 101), level=0.9))
    0.5000 [0.0500, 0.9500]
    """
    bias = drawn.mean() - value if np.isfinite([value, drawn.max()]).all() else 0.0
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf") - bias
    low = min(max(low, drawn.min() if lowest is None else lowest), value)
    high = max(min(high, drawn.max()), value)
    return Interval(float(value), float(low), float(high), level, len(drawn))


def resample(rng, rows, size):
    """Returns how often each of `size` samples is in each of `rows` resamples: float64 of shape `(rows, size)`."""
    drawn = rng.integers(0, size, (rows, size), dtype=np.int64)
    drawn += size * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)


def intervals_note(methods):
    """Returns sentences on the intervals of a table: how they were found, and which of them are too narrow.

    Args:
        methods: `{name of a metric, or what begins with it: method of its intervals}`.

    Example:

    >>> print(intervals_note({"ece": "bias bound", "nll": "bootstrap", "auroc": "bootstrap"}))
    Brackets: 95 % confidence intervals (ece: bias bound; nll, auroc: bootstrap). Too narrow: auroc near 100 %.
    """
    named = {}
    for name, method in methods.items():
        named.setdefault(method, []).append(name)
    listed = "; ".join(f"{', '.join(names)}: {method}" for method, names in named.items())
    narrow = ", ".join(
        f"{name}{where}" for where, starts in NARROW.items() for name in methods if name.startswith(starts)
    )
    return f"Brackets: 95 % confidence intervals ({listed})." + (f" Too narrow: {narrow}." if narrow else "")
