"""Paired comparisons: arrays in, differences with confidence intervals and one of four words out."""

from kls.study.statistics.comparison import BETTER, SAME, UNKNOWN, WORSE, Comparison, compare, mcnemar
from kls.study.statistics.metrics import METRICS, Metric, Predictions, Scores
from kls.study.statistics.selection import Selection, select
from kls.study.statistics.uncertainty import Uncertainty

__all__ = [
    "BETTER",
    "METRICS",
    "SAME",
    "UNKNOWN",
    "WORSE",
    "Comparison",
    "Metric",
    "Predictions",
    "Scores",
    "Selection",
    "Uncertainty",
    "compare",
    "mcnemar",
    "select",
]
