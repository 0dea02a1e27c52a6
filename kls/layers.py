"""Layers that the models are made of."""

import keras


@keras.saving.register_keras_serializable(package="kls")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation (Ioffe & Szegedy 2015) by TensorFlow's fused kernel, Keras's own elsewhere.

    The same weights, names, arguments and results as `keras.layers.BatchNormalization`. On TensorFlow, images of
    shape `(N, H, W, C)` normalised over `C` take `tf.compat.v1.nn.fused_batch_norm`, which is faster and keeps
    float16 and bfloat16 activations as they are while statistics stay in float32. Anything else (masks, other
    axes, `renorm`, `synchronized`, no scale or offset) takes Keras's path.

    Under a `tf.distribute` strategy each replica normalises with its own batch; the moving statistics are the
    mean over the replicas, so that all of them hold the same values. `synchronized=True` normalises with the
    moments of the global batch, as one replica would.

    Args:
        synchronized: Whether the moments are those of the global batch of all replicas. TensorFlow only.
        **kwargs: As in `keras.layers.BatchNormalization`.

    Example:

    >>> tuple(BatchNormalization()(keras.ops.ones((2, 8, 8, 3))).shape)
    (2, 8, 8, 3)
    """

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

        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True
        )
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), variance.dtype)
        # the kernel returns the variance with Bessel's correction, Keras averages the one without
        biased_variance = variance * tf.maximum(count - 1, 1) / count
        replicas = tf.distribute.get_replica_context()
        if replicas is not None and replicas.num_replicas_in_sync > 1:
            mean, biased_variance = replicas.all_reduce(tf.distribute.ReduceOp.MEAN, [mean, biased_variance])
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, biased_variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs

    def _fused_inference(self, inputs):
        import tensorflow as tf

        outputs, _, _ = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            self.gamma.value,
            self.beta.value,
            mean=self.moving_mean.value,
            variance=self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=False,
        )
        return outputs


@keras.saving.register_keras_serializable(package="kls")
class MonteCarloDropout(keras.layers.Dropout):
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
