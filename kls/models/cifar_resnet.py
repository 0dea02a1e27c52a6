"""Residual networks for small images: the CIFAR forms of He et al. 2015 (v1) and 2016 (v2).

Both follow the Keras CIFAR example that Mezzini 2018 trained: convolutions with biases, He initialisation
and an L2 penalty on their kernels. Global average pooling in place of the example's 8x8 pooling is the same
thing at 32x32 and takes images of any size.
"""

from keras import layers

from kls.models.checks import blocks_per_stage
from kls.models.registry import register
from kls.models.styles import KerasStyle, blocks


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
    count = blocks_per_stage(depth, layers_per_block=6, extra_layers=2)
    net = KerasStyle(input_shape, classes, classifier_activation, l2, synchronized)
    x = net.conv_norm_relu(net.inputs, 16, 3)
    for filters, strides in blocks((16, 32, 64), (count,) * 3):
        y = net.conv_norm_relu(x, filters, 3, strides)
        y = net.norm(net.conv(y, filters, 3))
        shortcut = net.conv(x, filters, 1, strides) if strides > 1 else x
        x = layers.ReLU()(layers.Add()([shortcut, y]))
    return net.model(x, name or f"resnet{depth}v1")


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
    count = blocks_per_stage(depth, layers_per_block=9, extra_layers=2)
    net = KerasStyle(input_shape, classes, classifier_activation, l2, synchronized)
    x = stem = net.conv_norm_relu(net.inputs, 16, 3)
    for (width, filters), strides in blocks(((16, 64), (64, 128), (128, 256)), (count,) * 3):
        y = net.conv_norm_relu(x if x is stem else net.norm_relu(x), width, 1, strides)
        y = net.conv_norm_relu(y, width, 3)
        y = net.conv(y, filters, 1)
        shortcut = net.conv(x, filters, 1, strides) if x.shape[-1] != filters else x
        x = layers.Add()([shortcut, y])
    return net.model(net.norm_relu(x), name or f"resnet{depth}v2")


for depth in (8, 20, 32, 44, 56, 110):
    register(f"resnet{depth}v1", ResNetV1, depth=depth)
register("resnet83v2", ResNetV2, depth=83)
