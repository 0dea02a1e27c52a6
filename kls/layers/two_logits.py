"""The logits of two classes, of a network that has one output for both."""

import keras
from keras import ops

from kls.utils.arrays import shown


@keras.saving.register_keras_serializable(package="kls")
class TwoLogits(keras.layers.Layer):
    """Puts 0, the logit of class 0, before the logit z of class 1: `softmax((0, z))[1] = sigmoid(z)`.

    Args:
        **kwargs: As in `keras.layers.Layer`.

    Raises:
        ValueError: If its inputs are not of shape `(N, 1)`.

    Example:

    >>> ops.convert_to_numpy(TwoLogits()(ops.array([[2.0], [-1.0]]))).tolist()
    [[0.0, 2.0], [0.0, -1.0]]
    """

    def build(self, input_shape):
        if len(input_shape) != 2 or input_shape[1] != 1:
            raise ValueError(f"`inputs` must be of shape (N, 1). Received: shape {shown(tuple(input_shape))}")

    def call(self, inputs):
        return ops.concatenate([ops.zeros_like(inputs), inputs], axis=1)
