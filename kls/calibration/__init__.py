"""Are a classifier's confidences true? Metrics, and scalers that correct them after training."""

from kls.calibration.errors import (
    classwise_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
    uncertainty_calibration_error,
)
from kls.calibration.metrics import (
    METRICS,
    accuracy,
    area_under_risk_coverage,
    brier_score,
    brier_top,
    interval,
    negative_log_likelihood,
    risk_coverage,
    summarize,
)
from kls.calibration.scaling import SCALERS
from kls.calibration.scaling.base import cross_fitted
from kls.calibration.scaling.classwise import HistogramBinning, IsotonicScaling
from kls.calibration.scaling.linear import DirichletScaling, MatrixScaling, VectorScaling
from kls.calibration.scaling.temperature import TemperatureLayer, TemperatureScaling
from kls.utils.bootstrap import Interval

__all__ = [
    "METRICS",
    "SCALERS",
    "DirichletScaling",
    "HistogramBinning",
    "Interval",
    "IsotonicScaling",
    "MatrixScaling",
    "TemperatureLayer",
    "TemperatureScaling",
    "VectorScaling",
    "accuracy",
    "area_under_risk_coverage",
    "brier_score",
    "brier_top",
    "classwise_calibration_error",
    "cross_fitted",
    "debiased_calibration_error",
    "expected_calibration_error",
    "interval",
    "maximum_calibration_error",
    "negative_log_likelihood",
    "risk_coverage",
    "summarize",
    "uncertainty_calibration_error",
]
