"""Where trials are trained: each executor is a function of `(trials, train, report)` that yields what they end with.

`train` is a function of `(trial, report)` that returns a trial's record. What is yielded is `(trial, record, None)`, or
`(trial, None, reason)` of a trial that failed; the others go on.
"""


def describe_error(error):
    """Returns an error as the reason of a trial's failure."""
    return f"{type(error).__name__}: {error}"
