"""Batch normalisation by TensorFlow's fused kernel."""

import keras

from kls.layers.fused_batch_norm import normalize_in_inference, normalize_in_training
from kls.utils.arrays import check_bool, check_number


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
