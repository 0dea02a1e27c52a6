"""Layers as Torch's networks have them: convolutions padded on all sides and without biases, weight decay on all."""

import keras
from keras import layers
from keras.regularizers import L2

from kls.layers import BatchNormalization
from kls.models.grouped_convolution import GroupedConv2D
from kls.utils.arrays import check_number


def torch_style_layers(l2, synchronized):
    """Returns the three layer functions of a network.

    Args:
        l2: L2 penalty on all trainable weights, or 0.
        synchronized: Whether batch normalisation sees the batch of all replicas.

    Returns:
        `conv(filters, kernel_size, strides=1, groups=1)`, a convolution without biases of images padded by half the
        kernel on all four sides, drawn from N(0, sqrt(2 / (k^2 filters))); `norm(x)`, normalisation with PyTorch's
        momentum and, as nearly as the fused kernel takes it, epsilon; and `classify(x, classes, activation)`, global
        average pooling and a linear layer.
    """
    check_number(l2, "l2", "[0, inf)")
    penalty = L2(float(l2)) if l2 else None

    def conv(filters, kernel_size, strides=1, groups=1):
        halves = strides > 1 and kernel_size > 1  # there "same" pads even sides after the image alone
        convolution = GroupedConv2D if groups > 1 else layers.Conv2D
        convolve = convolution(
            filters,
            kernel_size,
            strides=strides,
            padding="valid" if halves else "same",
            groups=groups,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            kernel_regularizer=penalty,
        )
        return lambda x: convolve(layers.ZeroPadding2D(kernel_size // 2)(x) if halves else x)

    def norm(x):
        return BatchNormalization(
            momentum=0.9,
            epsilon=1.001e-5,
            gamma_regularizer=penalty,
            beta_regularizer=penalty,
            synchronized=synchronized,
        )(x)

    def classify(x, classes, activation):
        x = layers.GlobalAveragePooling2D(name="features")(x)
        return layers.Dense(
            int(classes),
            activation=activation,
            kernel_regularizer=penalty,
            bias_regularizer=penalty,
            dtype="float32",
            name="classifier",
        )(x)

    return conv, norm, classify
