"""Predictions averaged over the draws of a model's dropout."""

import math

import keras
from keras import ops

from kls.layers import MonteCarloDropout
from kls.utils.arrays import check_number, check_whole, shown
from kls.utils.last_layer import LastLayer, last_layer


def monte_carlo(model, rate=0.2, passes=20, seed=None):
    """Returns a model that averages the predictions of `model` over draws of a dropout before its last layer.

    `log((1/S) sum_s softmax(W (m_s * features) + b))` over S = `passes` masks `m_s`, Gal & Ghahramani 2016, "Dropout as
    a Bayesian approximation". Section 6 of the label distribution learning paper makes labels so, with S = 20 and a
    rate of 0.2. Where the dropout stands it does not say: here that is before the last layer, so that all up to the
    features runs once for all passes.

    Args:
        model: A Keras classifier whose last layer is found: see `kls.utils.feature_extractor.Network`.
        rate: Float in [0, 1): the probability that a feature is dropped.
        passes: Number of draws in inference.
        seed: Integer from which the dropout draws; `None` takes one at random.

    Returns:
        A Keras model that shares the layers, and so the weights, of `model`. In inference it returns logarithms of
        probabilities, which are logits too; in training the logits of one pass with ordinary dropout. So losses,
        metrics and `kls.Distiller` take it with `from_logits=True`, as a teacher and as a student. Its outputs are of
        shape `(N, 2)` where those of `model` are of shape `(N, 1)`.

    Raises:
        ValueError: If the last layer is not found, if `rate` is outside [0, 1), or if `passes` is not a
            whole number of at least 1.

    Example:

    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    >>> log_p = monte_carlo(model, rate=0.2, passes=20)(ops.ones((2, 4)))
    >>> ops.convert_to_numpy(ops.sum(ops.exp(log_p), axis=-1)).round(4).tolist()
    [1.0, 1.0]
    """
    last = last_layer(model)
    if last is None:
        raise ValueError(
            "`model` must be a functional or Sequential model that ends in a Dense layer or a 1x1 convolution. "
            f"Received: {shown(model)}"
        )
    head = MonteCarloHead(last.layer, rate, passes, seed, dtype=last.layer.dtype_policy)
    return keras.Model(last.trunk.inputs[0], head(last.trunk.outputs[0]), name=f"monte_carlo_{model.name}")


@keras.saving.register_keras_serializable(package="kls")
class MonteCarloHead(keras.layers.Wrapper):
    """A last layer behind a dropout: logits of one pass in training, the log of the passes' mean softmax in inference.

    Args:
        layer: The `keras.layers.Dense` of the classes, or a built `keras.layers.Conv2D` of kernels of 1 x 1; its
            activation is left out.
        rate: Float in [0, 1).
        passes: Number of draws in inference.
        seed: Integer from which the dropout draws; `None` takes one at random.
        **kwargs: As in `keras.layers.Layer`.

    Raises:
        ValueError: If `layer` is neither, if `rate` is outside [0, 1), or if `passes` is not a whole number of
            at least 1.

    Example:

    >>> head = MonteCarloHead(keras.layers.Dense(3), rate=0.5, passes=8)
    >>> tuple(head(ops.ones((2, 4))).shape)
    (2, 3)
    """

    def __init__(self, layer, rate=0.2, passes=20, seed=None, **kwargs):
        if not isinstance(layer, keras.layers.Dense | keras.layers.Conv2D):
            raise ValueError(f"`layer` must be a `keras.layers.Dense` or `Conv2D`. Received: layer={shown(layer)}")
        super().__init__(layer, **kwargs)
        self.passes = check_whole(passes, "passes", 1)
        rate = check_number(rate, "rate", "[0, 1)")
        self.dropout = MonteCarloDropout(rate, seed=seed, dtype=self.dtype_policy)

    def call(self, features, training=None):
        if training:
            return self._logits(self.dropout(features))
        repeated = ops.repeat(ops.expand_dims(features, 0), self.passes, axis=0)
        log_p = ops.log_softmax(self._logits(self.dropout(repeated)), axis=-1)
        return ops.logsumexp(log_p, axis=0) - math.log(self.passes)

    def _logits(self, features):
        return ops.cast(LastLayer(self.layer).logits_of(features), keras.config.floatx())

    def get_config(self):
        return {
            **super().get_config(),
            "rate": self.dropout.rate,
            "passes": self.passes,
            "seed": self.dropout.seed,
        }
