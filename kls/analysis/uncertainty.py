"""Predictions averaged over the draws of a model's dropout."""

import math

import keras
from keras import ops

from kls.layers import MonteCarloDropout
from kls.utils.arrays import check_number, check_whole, shown
from kls.utils.feature_extractor import last_dense, project


def monte_carlo(model, rate=0.2, passes=20, seed=None):
    """Returns a model that averages the predictions of `model` over draws of a dropout before its last layer.

    `log((1/S) sum_s softmax(W (m_s * features) + b))` over S = `passes` masks `m_s`, Gal & Ghahramani 2016, "Dropout as
    a Bayesian approximation". Section 6 of the label distribution learning paper makes labels so, with S = 20 and a
    rate of 0.2. Where the dropout stands it does not say: here that is before the last `Dense` layer, so that all up to
    the features runs once for all passes.

    Args:
        model: A functional or `Sequential` Keras classifier that ends in a `Dense` layer, which a softmax may follow.
        rate: Float in [0, 1): the probability that a feature is dropped.
        passes: Number of draws in inference.
        seed: Integer from which the dropout draws; `None` takes one at random.

    Returns:
        A Keras model that shares the layers, and so the weights, of `model`. In inference it returns logarithms of
        probabilities, which are logits too; in training the logits of one pass with ordinary dropout. So losses,
        metrics and `kls.Distiller` take it with `from_logits=True`, as a teacher and as a student.

    Raises:
        ValueError: If the model does not end in a `Dense` layer, if `rate` is outside [0, 1), or if `passes` is not a
            whole number of at least 1.

    Example:

    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    >>> log_p = monte_carlo(model, rate=0.2, passes=20)(ops.ones((2, 4)))
    >>> ops.convert_to_numpy(ops.sum(ops.exp(log_p), axis=-1)).round(4).tolist()
    [1.0, 1.0]
    """
    found = last_dense(model)
    if found is None:
        raise ValueError(
            f"`model` must be a functional or Sequential model that ends in a Dense layer. Received: {shown(model)}"
        )
    dense, trunk = found
    head = MonteCarloHead(dense, rate, passes, seed, dtype=dense.dtype_policy)
    return keras.Model(trunk.inputs[0], head(trunk.outputs[0]), name=f"monte_carlo_{model.name}")


@keras.saving.register_keras_serializable(package="kls")
class MonteCarloHead(keras.layers.Wrapper):
    """A last layer behind a dropout: logits of one pass in training, the log of the passes' mean softmax in inference.

    Args:
        layer: The `keras.layers.Dense` of the classes; its activation, linear or softmax, is left out.
        rate: Float in [0, 1).
        passes: Number of draws in inference.
        seed: Integer from which the dropout draws; `None` takes one at random.
        **kwargs: As in `keras.layers.Layer`.

    Raises:
        ValueError: If `layer` is no `Dense` layer, if `rate` is outside [0, 1), or if `passes` is not a whole number of
            at least 1.

    Example:

    >>> head = MonteCarloHead(keras.layers.Dense(3), rate=0.5, passes=8)
    >>> tuple(head(ops.ones((2, 4))).shape)
    (2, 3)
    """

    def __init__(self, layer, rate=0.2, passes=20, seed=None, **kwargs):
        if not isinstance(layer, keras.layers.Dense):
            raise ValueError(f"`layer` must be a `keras.layers.Dense`. Received: layer={shown(layer)}")
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
        return ops.cast(project(self.layer, features), keras.config.floatx())

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "rate": self.dropout.rate,
            "passes": self.passes,
            "seed": self.dropout.seed,
        }
