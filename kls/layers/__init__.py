"""Layers that the models are made of."""

from kls.layers.batch_normalization import BatchNormalization
from kls.layers.dropout import Dropout, MonteCarloDropout
from kls.layers.pixels import Pixels

__all__ = ["BatchNormalization", "Dropout", "MonteCarloDropout", "Pixels"]
