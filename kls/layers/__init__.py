"""Layers that the models are made of."""

from kls.layers.batch_normalization import BatchNormalization
from kls.layers.dropout import Dropout, MonteCarloDropout
from kls.layers.pixels import Pixels
from kls.layers.two_logits import TwoLogits

__all__ = ["BatchNormalization", "Dropout", "MonteCarloDropout", "Pixels", "TwoLogits"]
