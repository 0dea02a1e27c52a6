"""Losses, models, layers and callbacks that answer: what does softening the labels do to an image classifier?"""

from kls import callbacks, feeding, layers, losses, models, plots, targets
from kls.callbacks import FullStateCheckpoint
from kls.losses import SmoothedCE
from kls.targets import epsilon_from_gamma, gamma_from_epsilon
from kls.version import __version__

__all__ = [
    "FullStateCheckpoint",
    "SmoothedCE",
    "__version__",
    "callbacks",
    "epsilon_from_gamma",
    "feeding",
    "gamma_from_epsilon",
    "layers",
    "losses",
    "models",
    "plots",
    "targets",
]
