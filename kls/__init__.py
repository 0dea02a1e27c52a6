"""What does softening the labels do to an image classifier? Losses, models, calibration, OOD detection for Keras 3."""

from importlib import import_module

from kls.utils.start import start_as_command

start_as_command()

from kls import analysis, calibration, callbacks, distillation, layers, losses, metrics, models, ood, plots, targets
from kls.analysis.uncertainty import monte_carlo
from kls.callbacks import CalibrationCallback, FullStateCheckpoint, OODCallback
from kls.distillation import ContrastiveDistillation, Distiller, teacher_logits
from kls.evaluation import Evaluation, evaluate
from kls.guarding import Guarded, guard
from kls.losses import FocalStd, KnowledgeDistillation, OutlierExposure, SmoothedCE, WeightedSoftLabels
from kls.losses.teachers import pack_teacher
from kls.targets import epsilon_from_gamma, gamma_from_epsilon
from kls.version import __version__

__all__ = [
    "CalibrationCallback",
    "ContrastiveDistillation",
    "Distiller",
    "Evaluation",
    "FocalStd",
    "FullStateCheckpoint",
    "Guarded",
    "KnowledgeDistillation",
    "OODCallback",
    "OutlierExposure",
    "SmoothedCE",
    "Study",
    "WeightedSoftLabels",
    "__version__",
    "analysis",
    "calibration",
    "callbacks",
    "distillation",
    "epsilon_from_gamma",
    "evaluate",
    "gamma_from_epsilon",
    "guard",
    "layers",
    "losses",
    "metrics",
    "models",
    "monte_carlo",
    "ood",
    "pack_teacher",
    "plots",
    "study",
    "targets",
    "teacher_logits",
]


def __getattr__(name):
    """Imports studies on first use: they need pandas and the data package, which the rest does not."""
    if name == "study":
        return import_module("kls.study")
    if name == "Study":
        return import_module("kls.study.study").Study
    raise AttributeError(f"module 'kls' has no attribute {name!r}")
