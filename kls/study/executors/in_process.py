"""Trials one after the other, in this process."""

from kls.study.executors import ended


def train_in_turn(groups, train, report):
    """Trains groups of trials in this process, parents before their children; see `kls.study.executors`."""
    for group in groups:
        report.group_begins(group)
        yield from ended(group, train, report)
