"""Many trainings, one honest comparison: methods, trials, plans, the store of results, tables."""

from kls.study import methods

__all__ = ["methods"]
