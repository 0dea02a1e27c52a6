"""Does a classifier know what it does not know? Scores, metrics of OOD detection, thresholds."""

from kls.ood import scores
from kls.ood.metrics import (
    CONVENTIONS,
    METRICS,
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
    "METRICS",
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
