"""Trials one after the other, in this process."""

from kls.study.executors import describe_error


def train_in_turn(trials, train, report):
    """Trains trials in this process, parents before their children; see `kls.study.executors`."""
    for trial in trials:
        report.trial_begins(trial)
        record = reason = None
        try:
            record = train(trial, report)
        except Exception as error:  # whatever ends a trial, the others go on
            reason = describe_error(error)
        yield trial, record, reason
