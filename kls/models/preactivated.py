"""The layers of wide residual and dense networks: normalisation and ReLU come before each convolution."""

import keras
from keras import layers

from kls.layers import BatchNormalization


def preactivated_layers(l2, synchronized):
    """Returns a network's two layer functions and its penalty on all trainable weights.

    Args:
        l2: L2 penalty, or 0.
        synchronized: Whether batch normalisation sees the batch of all replicas.

    Returns:
        `conv(filters, kernel_size, strides=1)`, a convolution without biases, drawn from N(0, sqrt(2 / (k^2 filters)));
        `norm_relu(x)`, normalisation with PyTorch's momentum and, as nearly as the fused kernel takes it, epsilon; and
        a `keras.regularizers.L2`, or `None`.
    """
    penalty = keras.regularizers.L2(l2) if l2 else None

    def conv(filters, kernel_size, strides=1):
        return layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            kernel_regularizer=penalty,
        )

    def norm_relu(x):
        x = BatchNormalization(
            momentum=0.9,
            epsilon=1.001e-5,
            gamma_regularizer=penalty,
            beta_regularizer=penalty,
            synchronized=synchronized,
        )(x)
        return layers.ReLU()(x)

    return conv, norm_relu, penalty
