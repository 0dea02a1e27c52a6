"""What does softening the labels do to an image classifier? Losses, models, calibration, OOD detection for Keras 3."""

from kls import calibration, callbacks, distillation, feeding, layers, losses, metrics, models, ood, plots, targets
from kls.callbacks import CalibrationCallback, FullStateCheckpoint, OODCallback
from kls.distillation import Distiller
from kls.evaluation import Evaluation, evaluate
from kls.losses import KnowledgeDistillation, OutlierExposure, SmoothedCE
from kls.targets import epsilon_from_gamma, gamma_from_epsilon, pack_teacher
from kls.version import __version__

__all__ = [
    "CalibrationCallback",
    "Distiller",
    "Evaluation",
    "FullStateCheckpoint",
    "KnowledgeDistillation",
    "OODCallback",
    "OutlierExposure",
    "SmoothedCE",
    "__version__",
    "calibration",
    "callbacks",
    "distillation",
    "epsilon_from_gamma",
    "evaluate",
    "feeding",
    "gamma_from_epsilon",
    "layers",
    "losses",
    "metrics",
    "models",
    "ood",
    "pack_teacher",
    "plots",
    "targets",
]
