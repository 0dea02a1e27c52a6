"""Does a classifier know what it does not know? Scores of familiarity, and measures of how well they tell."""

from kls.ood import scores
from kls.ood.measures import (
    MEASURES,
    aupr_in,
    aupr_out,
    auroc,
    detection_accuracy,
    detection_threshold,
    fpr_at_tpr,
    interval,
    roc,
)

__all__ = [
    "MEASURES",
    "aupr_in",
    "aupr_out",
    "auroc",
    "detection_accuracy",
    "detection_threshold",
    "fpr_at_tpr",
    "interval",
    "roc",
    "scores",
]
