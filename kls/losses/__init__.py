"""Losses on softened labels, each a `keras.losses.Loss` that works on every Keras backend."""

from kls.losses.focal_std import FocalStd
from kls.losses.knowledge_distillation import KnowledgeDistillation
from kls.losses.outlier_exposure import OutlierExposure
from kls.losses.smoothed_ce import SmoothedCE
from kls.losses.weighted_soft_labels import WeightedSoftLabels

__all__ = ["FocalStd", "KnowledgeDistillation", "OutlierExposure", "SmoothedCE", "WeightedSoftLabels"]
