"""Confidence intervals of proportions: they hold where a bootstrap has nothing to resample, as at 50 hits of 50."""

import math

from kls.utils.bootstrap import Interval

METHOD = "Clopper-Pearson"


def clopper_pearson(count, size, level):
    """Returns the ends of the exact interval of a proportion (Clopper & Pearson 1934): quantiles of beta distributions.

    It covers the true proportion at least as often as its level says, whatever the proportion.

    Args:
        count: How many of the samples are counted.
        size: Number of samples.
        level: Confidence level, in (0, 1).

    Example:

    >>> low, high = clopper_pearson(50, 50, 0.95)
    >>> round(low, 4), high
    (0.9289, 1.0)
    """
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, count, size - count + 1)) if count > 0 else 0.0
    high = float(beta.isf(tail, count + 1, size - count)) if count < size else 1.0
    return low, high


def proportion_interval(count, size, level):
    """Returns the exact `Interval` of a proportion; see `clopper_pearson`.

    Example:

    >>> print(proportion_interval(50, 50, 0.95))
    1.0000 [0.9289, 1.0000]
    """
    return Interval(count / size, *clopper_pearson(count, size, level), level, 0, METHOD)


def square_and_add(value, ends, level, method):
    """Returns the `Interval` of a value that errs for several independent reasons (Newcombe 1998, Zou & Donner 2008).

    Each reason alone would give an interval around the value. Like standard errors, their distances to the value add
    up in squares, below and above it apart.

    Args:
        value: A share, in [0, 1].
        ends: Pairs `(low, high)`, one per reason; the value lies within each.
        level: Confidence level of each of them.
        method: Name of how they were found.

    Example:

    >>> print(square_and_add(0.5, [(0.47, 0.53), (0.46, 0.6)], 0.95, "by hand"))
    0.5000 [0.4500, 0.6044]
    """
    low = value - math.hypot(*(value - low for low, _ in ends))
    high = value + math.hypot(*(high - value for _, high in ends))
    return Interval(value, max(low, 0.0), min(high, 1.0), level, 0, method)
