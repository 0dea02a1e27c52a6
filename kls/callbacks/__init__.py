"""Keras callbacks."""

from kls.callbacks.evaluation import CalibrationCallback, OODCallback
from kls.callbacks.full_state import FullStateCheckpoint

__all__ = ["CalibrationCallback", "FullStateCheckpoint", "OODCallback"]
