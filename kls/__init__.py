"""What does softening the labels do to an image classifier? Losses, models, calibration, OOD detection for Keras 3."""

from kls import calibration, callbacks, feeding, layers, losses, metrics, models, ood, plots, targets
from kls.callbacks import CalibrationCallback, FullStateCheckpoint, OODCallback
from kls.evaluation import Evaluation, evaluate
from kls.losses import SmoothedCE
from kls.targets import epsilon_from_gamma, gamma_from_epsilon
from kls.version import __version__

__all__ = [
    "CalibrationCallback",
    "Evaluation",
    "FullStateCheckpoint",
    "OODCallback",
    "SmoothedCE",
    "__version__",
    "calibration",
    "callbacks",
    "epsilon_from_gamma",
    "evaluate",
    "feeding",
    "gamma_from_epsilon",
    "layers",
    "losses",
    "metrics",
    "models",
    "ood",
    "plots",
    "targets",
]
