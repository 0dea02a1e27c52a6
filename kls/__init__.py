"""What does softening the labels do to an image classifier? Losses, models, calibration, OOD detection for Keras 3."""

from kls import (
    calibration,
    callbacks,
    contrastive,
    distillation,
    feeding,
    layers,
    losses,
    metrics,
    models,
    ood,
    optimizers,
    overfitting,
    per_class,
    plots,
    projection,
    regularizers,
    targets,
    uncertainty,
)
from kls.callbacks import CalibrationCallback, FullStateCheckpoint, OODCallback
from kls.contrastive import ContrastiveDistillation
from kls.distillation import Distiller, teacher_logits
from kls.evaluation import Evaluation, evaluate
from kls.losses import FocalStd, KnowledgeDistillation, OutlierExposure, SmoothedCE, WeightedSoftLabels
from kls.targets import epsilon_from_gamma, gamma_from_epsilon, pack_teacher
from kls.uncertainty import monte_carlo
from kls.version import __version__

__all__ = [
    "CalibrationCallback",
    "ContrastiveDistillation",
    "Distiller",
    "Evaluation",
    "FocalStd",
    "FullStateCheckpoint",
    "KnowledgeDistillation",
    "OODCallback",
    "OutlierExposure",
    "SmoothedCE",
    "WeightedSoftLabels",
    "__version__",
    "calibration",
    "callbacks",
    "contrastive",
    "distillation",
    "epsilon_from_gamma",
    "evaluate",
    "feeding",
    "gamma_from_epsilon",
    "layers",
    "losses",
    "metrics",
    "models",
    "monte_carlo",
    "ood",
    "optimizers",
    "overfitting",
    "pack_teacher",
    "per_class",
    "plots",
    "projection",
    "regularizers",
    "targets",
    "teacher_logits",
    "uncertainty",
]
