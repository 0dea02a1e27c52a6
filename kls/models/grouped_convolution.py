"""Grouped convolution as one convolution per group."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="kls")
class GroupedConv2D(layers.Conv2D):
    """Grouped convolution (Krizhevsky et al. 2012), computed group by group.

    The same weights, arguments and results as `keras.layers.Conv2D(groups=...)`, which is slow on CPUs: JAX leaves
    grouped convolutions to XLA, and so does Keras on TensorFlow, which has no gradient of them there. A training step
    of three such layers in a row (64 channels, 4 groups, 16x16 images, float32) took 36 to 250 times as long on two
    busy cores (n = 3: twice on TensorFlow, once on JAX). Meant for a few wide groups.

    Args:
        *args: As in `keras.layers.Conv2D`.
        **kwargs: As in `keras.layers.Conv2D`, `groups` among them.

    Example:

    >>> tuple(GroupedConv2D(6, 3, groups=2)(keras.ops.ones((1, 8, 8, 4))).shape)
    (1, 6, 6, 6)
    """

    def convolution_op(self, inputs, kernel):
        channels = -1 if self.data_format == "channels_last" else 1
        pairs = zip(ops.split(inputs, self.groups, channels), ops.split(kernel, self.groups, -1), strict=True)
        convolution = super().convolution_op
        return ops.concatenate([convolution(*pair) for pair in pairs], channels)
