"""Dropout, in training and in inference."""

import keras

from kls.utils.arrays import check_number

DRAWS = 2**16  # values that a draw of dropout can take


@keras.saving.register_keras_serializable(package="kls")
class Dropout(keras.layers.Dropout):
    """Dropout (Srivastava et al. 2014) that draws 16 bits per activation on TensorFlow, Keras's own elsewhere.

    Keras draws a float of the activations' dtype: in bfloat16 it has 7 bits, so that a rate of 0.3 drops 0.3047 of the
    activations and lowers their mean. Here the rate is rounded to a multiple of 2^-16 in each dtype, for the draws
    and for the factor of what is kept, so that the mean stays; and drawing takes half the time.

    Args:
        rate: Float in [0, 1]: the probability that an input becomes 0; the others are multiplied by `1 / (1 - rate)`.
        noise_shape: As in `keras.layers.Dropout`; then the layer is Keras's.
        seed: Integer from which the layer draws; `None` takes one at random.
        **kwargs: As in `keras.layers.Dropout`.

    Example:

    >>> kept = keras.ops.convert_to_numpy(Dropout(0.2, seed=0)(keras.ops.ones((1, 1000)), training=True)) > 0
    >>> bool(0.7 < kept.mean() < 0.9)
    True
    """

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(check_number(rate, "rate", "[0, 1]"), noise_shape, seed, **kwargs)

    def call(self, inputs, training=False):
        drawn_here = keras.backend.backend() == "tensorflow" and 0 < self.rate < 1 and self.noise_shape is None
        if not (training and drawn_here):
            return super().call(inputs, training=training)
        import tensorflow as tf

        dropped = min(round(self.rate * DRAWS), DRAWS - 1)
        count = tf.size(inputs)
        pairs = tf.random.stateless_uniform([(count + 1) // 2], self.seed_generator.next(), None, None, tf.uint32)
        draws = tf.reshape(tf.reshape(tf.bitcast(pairs, tf.int16), [-1])[:count], tf.shape(inputs))
        kept = tf.cast(draws >= dropped - DRAWS // 2, inputs.dtype)
        return inputs * (kept * tf.cast(DRAWS / (DRAWS - dropped), inputs.dtype))


@keras.saving.register_keras_serializable(package="kls")
class MonteCarloDropout(Dropout):
    """Dropout that drops in inference as in training (Gal & Ghahramani 2016, "Dropout as a Bayesian approximation").

    Each call draws anew, so the mean over calls is that of the model's predictive distribution; `kls.monte_carlo` puts
    the layer into a trained model and takes that mean.

    Args:
        rate: Float in [0, 1]: the probability that an input becomes 0; the others are multiplied by `1 / (1 - rate)`.
        seed: Integer from which the layer draws; `None` takes one at random.
        **kwargs: As in `keras.layers.Dropout`.

    Example:

    >>> kept = keras.ops.convert_to_numpy(MonteCarloDropout(0.2, seed=0)(keras.ops.ones((1, 1000)))) > 0
    >>> bool(0.7 < kept.mean() < 0.9)
    True
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(rate, seed=seed, **kwargs)

    def call(self, inputs, training=None):
        return super().call(inputs, training=True)
