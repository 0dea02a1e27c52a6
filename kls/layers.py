"""Layers that the models are made of."""

import keras

from kls.fused_batch_norm import normalize_in_inference, normalize_in_training
from kls.utils.arrays import check_bool, check_number

DRAWS = 2**16  # values that a draw of dropout can take


@keras.saving.register_keras_serializable(package="kls")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation (Ioffe & Szegedy 2015) by TensorFlow's fused kernel, Keras's own elsewhere.

    The same weights, names, arguments and results as `keras.layers.BatchNormalization`. On TensorFlow, images of
    shape `(N, H, W, C)` normalised over `C` take `tf.compat.v1.nn.fused_batch_norm`, which is faster and keeps
    float16 and bfloat16 activations as they are while statistics stay in float32; channels that are no multiple of
    16, as in DenseNet, are fast too. Anything else (masks, other axes, `renorm`, `synchronized`, no scale or offset)
    takes Keras's path.

    Under a `tf.distribute` strategy each replica normalises with its own batch; the moving statistics are the
    mean over the replicas, so that all of them hold the same values. `synchronized=True` normalises with the
    moments of the global batch, as one replica would.

    Args:
        axis: As in `keras.layers.BatchNormalization`.
        momentum: Float in [0, 1]: what the moving statistics keep of themselves in a step.
        epsilon: Finite float of at least 0, which is added to the variance.
        synchronized: Whether the moments are those of the global batch of all replicas. TensorFlow only.
        **kwargs: As in `keras.layers.BatchNormalization`.

    Example:

    >>> tuple(BatchNormalization()(keras.ops.ones((2, 8, 8, 3))).shape)
    (2, 8, 8, 3)
    """

    def __init__(self, axis=-1, momentum=0.99, epsilon=1e-3, synchronized=False, **kwargs):
        momentum = check_number(momentum, "momentum", "[0, 1]")
        epsilon = check_number(epsilon, "epsilon", "[0, inf)")
        super().__init__(axis, momentum, epsilon, synchronized=check_bool(synchronized, "synchronized"), **kwargs)

    def call(self, inputs, training=None, mask=None):
        if mask is not None or not self._fusible(inputs):
            return super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            return self._fused_training(inputs)
        return self._fused_inference(inputs)

    def _fusible(self, inputs):
        return (
            keras.backend.backend() == "tensorflow"
            and not (self.synchronized or self.renorm)
            and self.center
            and self.scale
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.epsilon >= 1.001e-5  # the least that the kernel takes
            and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "bfloat16", "float16")
            and keras.backend.standardize_dtype(self.gamma.dtype) == "float32"
        )

    def _fused_training(self, inputs):
        import tensorflow as tf

        outputs, mean, variance = normalize_in_training(inputs, self.gamma.value, self.beta.value, self.epsilon)
        replicas = tf.distribute.get_replica_context()
        if replicas is not None and replicas.num_replicas_in_sync > 1:
            mean, variance = replicas.all_reduce(tf.distribute.ReduceOp.MEAN, [mean, variance])
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs

    def _fused_inference(self, inputs):
        moments = self.moving_mean.value, self.moving_variance.value
        return normalize_in_inference(inputs, self.gamma.value, self.beta.value, *moments, self.epsilon)


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
