"""How metrics are written in tables."""

NOT_PERCENT = ("nll", "brier", "brier_top")


def with_interval(metric, value, low=None, high=None):
    """Returns a metric with its confidence interval, where there is one.

    Example:

    >>> with_interval("ece", 0.1, 0.08, 0.125), with_interval("nll", 0.5)
    ('10.00 [8.00, 12.50]', '0.5000')
    """
    scale, digits = (1, 4) if metric in NOT_PERCENT else (100, 2)
    text = f"{scale * value:.{digits}f}"
    return text if low is None else f"{text} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"
