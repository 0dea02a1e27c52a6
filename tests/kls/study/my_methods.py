"""A method outside of the package, as a user would write it by the docstring of `kls.study.methods`."""

from dataclasses import dataclass

import keras

import kls
from kls.study.methods import Method, register


class PenalisedCE(keras.losses.Loss):
    def __init__(self, beta, from_logits):
        super().__init__(name="penalised_ce")
        self.beta = beta
        self.cross_entropy = kls.SmoothedCE(1.0, from_logits, reduction=None)
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
        p = keras.ops.softmax(y_pred) if self.from_logits else y_pred
        entropy = -keras.ops.sum(p * keras.ops.log(p + 1e-12), axis=-1)
        return self.cross_entropy(y_true, y_pred) - self.beta * entropy


@register("penalised")
@dataclass(frozen=True)
class Penalised(Method):
    beta: float = 0.1

    def loss(self, training):
        return PenalisedCE(self.beta, training.from_logits)
