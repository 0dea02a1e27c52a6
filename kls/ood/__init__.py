"""Does a classifier know what it does not know? Scores of familiarity, measures of how well they tell, thresholds."""

from kls.ood import scores
from kls.ood.measures import (
    CONVENTIONS,
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
from kls.ood.threshold import Threshold

__all__ = [
    "CONVENTIONS",
    "MEASURES",
    "Threshold",
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
