"""Residual networks for small images: the CIFAR forms of He et al. 2015 (v1) and 2016 (v2).

Both follow the Keras CIFAR example that Mezzini 2018 trained: convolutions with biases, He initialisation
and an L2 penalty on their kernels. Global average pooling in place of the example's 8x8 pooling is the same
thing at 32x32 and takes images of any size.
"""

import keras
from keras import layers
from keras.regularizers import L2

from kls.layers import BatchNormalization
from kls.models.checks import blocks_per_stage, check_network
from kls.models.registry import register
from kls.utils.arrays import check_number


def ResNetV1(
    depth=20,
    input_shape=(32, 32, 3),
    classes=10,
    classifier_activation="softmax",
    l2=1e-4,
    synchronized=False,
    name=None,
):
    """Builds the ResNet of He et al. 2015, "Deep residual learning for image recognition", section 4.2.

    Three stages of n basic blocks (3x3, 3x3) with 16, 32 and 64 filters; depth = 6n + 2. Where a stage halves
    the image its first shortcut is a 1x1 convolution.

    Args:
        depth: 6n + 2: 8, 14, 20, 26, 32, ...
        input_shape: `(height, width, channels)`, sides of at least 8, 1 or 3 channels.
        classes: Number of classes K.
        classifier_activation: Activation of the last layer; `None` returns logits.
        l2: L2 penalty on the convolutions' kernels.
        synchronized: Whether batch normalisation sees the batch of all replicas (TensorFlow only).
        name: Name of the model.

    Returns:
        A `keras.Model` from images of shape `(N, height, width, channels)` to `(N, K)`.

    Raises:
        ValueError: If an argument is not as above; for a wrong depth with the nearest valid ones.

    Example:

    >>> ResNetV1(20).count_params()
    274442
    """
    blocks = blocks_per_stage(depth, layers_per_block=6, extra_layers=2)
    check_network(input_shape, classes, classifier_activation)
    conv, norm = _layers(l2, synchronized)

    inputs = layers.Input(input_shape)
    x = layers.ReLU()(norm()(conv(16, 3)(inputs)))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(blocks):
            halves = stage > 0 and block == 0
            y = layers.ReLU()(norm()(conv(filters, 3, strides=2 if halves else 1)(x)))
            y = norm()(conv(filters, 3)(y))
            shortcut = conv(filters, 1, strides=2)(x) if halves else x
            x = layers.ReLU()(layers.Add()([shortcut, y]))
    outputs = _classifier(x, classes, classifier_activation)
    return keras.Model(inputs, outputs, name=name or f"resnet{depth}v1")


def ResNetV2(
    depth=83,
    input_shape=(32, 32, 3),
    classes=10,
    classifier_activation="softmax",
    l2=1e-4,
    synchronized=False,
    name=None,
):
    """Builds the pre-activation ResNet of He et al. 2016, "Identity mappings in deep residual networks".

    Three stages of n bottlenecks (1x1, 3x3, 1x1); the stages give out 64, 128 and 256 channels, the
    bottlenecks within are 16, 64 and 128 wide as in the Keras CIFAR example; depth = 9n + 2.

    Args:
        depth: 9n + 2: 11, 20, 29, ..., 83, ...
        input_shape: `(height, width, channels)`, sides of at least 8, 1 or 3 channels.
        classes: Number of classes K.
        classifier_activation: Activation of the last layer; `None` returns logits.
        l2: L2 penalty on the convolutions' kernels.
        synchronized: Whether batch normalisation sees the batch of all replicas (TensorFlow only).
        name: Name of the model.

    Returns:
        A `keras.Model` from images of shape `(N, height, width, channels)` to `(N, K)`.

    Raises:
        ValueError: If an argument is not as above; for a wrong depth with the nearest valid ones.

    Example:

    >>> ResNetV2(83).count_params()
    2498474
    """
    blocks = blocks_per_stage(depth, layers_per_block=9, extra_layers=2)
    check_network(input_shape, classes, classifier_activation)
    conv, norm = _layers(l2, synchronized)

    inputs = layers.Input(input_shape)
    x = layers.ReLU()(norm()(conv(16, 3)(inputs)))
    for stage, (width, filters) in enumerate(((16, 64), (64, 128), (128, 256))):
        for block in range(blocks):
            strides = 2 if stage > 0 and block == 0 else 1
            preactivated = x if stage == 0 and block == 0 else layers.ReLU()(norm()(x))
            y = conv(width, 1, strides=strides)(preactivated)
            y = conv(width, 3)(layers.ReLU()(norm()(y)))
            y = conv(filters, 1)(layers.ReLU()(norm()(y)))
            shortcut = conv(filters, 1, strides=strides)(x) if block == 0 else x
            x = layers.Add()([shortcut, y])
    outputs = _classifier(layers.ReLU()(norm()(x)), classes, classifier_activation)
    return keras.Model(inputs, outputs, name=name or f"resnet{depth}v2")


def _layers(l2, synchronized):
    """Returns the two layer functions of a network: `conv(filters, kernel_size, strides=1)` and `norm()`."""
    check_number(l2, "l2", "[0, inf)")

    def conv(filters, kernel_size, strides=1):
        return layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=L2(float(l2)) if l2 else None,
        )

    def norm():
        return BatchNormalization(synchronized=synchronized)

    return conv, norm


def _classifier(x, classes, activation):
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return layers.Dense(
        int(classes), activation=activation, kernel_initializer="he_normal", dtype="float32", name="classifier"
    )(x)


register("resnet8v1", ResNetV1, depth=8)
register("resnet20v1", ResNetV1, depth=20)
register("resnet32v1", ResNetV1, depth=32)
register("resnet44v1", ResNetV1, depth=44)
register("resnet56v1", ResNetV1, depth=56)
register("resnet110v1", ResNetV1, depth=110)
register("resnet83v2", ResNetV2, depth=83)
