"""Where trials are trained: each executor is a function of `(groups, train, report)` that yields what they end with.

`train` is a function of a group of trials, most of them of a single one, and a report. It returns the record of each,
or the error of one that failed beside others. What is yielded is `(trial, record, None)`, or `(trial, None, reason)` of
a trial that failed; the others go on.
"""


def ended(group, train, report):
    """Trains a group of trials and returns what they ended with: a list of `(trial, record, reason)`."""
    try:
        found = train(group, report)
    except Exception as error:  # whatever ends a trial, the others go on
        found = [error] * len(group)
    return [
        (trial, None, describe_error(of)) if isinstance(of, Exception) else (trial, of, None)
        for trial, of in zip(group, found, strict=True)
    ]


def describe_error(error):
    """Returns an error as the reason of a trial's failure."""
    return f"{type(error).__name__}: {error}"
