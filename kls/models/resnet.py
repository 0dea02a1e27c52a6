"""Residual networks of the ImageNet kind (He et al. 2015) for small images, and the blocks that others share."""

from keras import layers

from kls.models.checks import blocks_of_depth
from kls.models.registry import register
from kls.models.styles import TorchStyle, blocks

BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}


def ResNet(
    depth=18,
    input_shape=(32, 32, 3),
    classes=10,
    classifier_activation="softmax",
    l2=2.5e-4,
    synchronized=False,
    name=None,
):
    """Builds the ImageNet form of He et al. 2015, "Deep residual learning for image recognition", for small images.

    Four stages (table 1; depth 200 as in He et al. 2016, "Identity mappings in deep residual networks") with 64, 128,
    256 and 512 filters: of basic blocks (3x3, 3x3) up to depth 34, from 50 on of bottlenecks (1x1, 3x3, 1x1) that
    give out four times as many channels. The first convolution is 3x3, without strides and pooling, as in the networks
    of kuangliu/pytorch-cifar: the image is halved three times, by the first 3x3 convolution of a stage. As in the
    authors' Torch code: no biases in the convolutions, kernels drawn from N(0, sqrt(2 / (k^2 filters))), a 1x1
    convolution and a normalisation in a shortcut wherever the shape changes. Batch normalisation has Torch's momentum
    and, but for the 0.1 % that the fused kernel asks for, its epsilon of 1e-5.

    The label distribution learning paper's 11.18 M, 23.51 M and 62.62 M parameters for depths 18, 50 and 200 are what
    the form for ImageNet, with its 7x7 convolution, has without the classifier; here, with 100 classes, they are
    11.22 M, 23.71 M and 62.82 M.

    Args:
        depth: 18, 34, 50, 101, 152 or 200.
        input_shape: `(height, width, channels)`, sides of at least 8, 1 or 3 channels.
        classes: Number of classes K.
        classifier_activation: Activation of the last layer; `None` returns logits.
        l2: L2 penalty on all trainable weights, the scales and offsets of the normalisation included;
            `l2 * |w|^2` is a weight decay of `2 * l2` in Torch's SGD, so the default is 5e-4, that of the label
            distribution learning paper.
        synchronized: Whether batch normalisation sees the batch of all replicas (TensorFlow only).
        name: Name of the model.

    Returns:
        A `keras.Model` from images of shape `(N, height, width, channels)` to `(N, K)`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> ResNet(18, input_shape=(32, 32, 3), classes=10).count_params()
    11183562
    """
    counts = blocks_of_depth(depth, BASIC | BOTTLENECK)
    net = TorchStyle(input_shape, classes, classifier_activation, l2, synchronized)
    x = net.conv_norm_relu(net.inputs, 64, 3)
    for width, strides in blocks((64, 128, 256, 512), counts):
        x = basic_block(net, x, width, strides) if depth in BASIC else bottleneck(net, x, width, 4 * width, strides)
    return net.model(x, name or f"resnet{depth}")


def basic_block(net, x, filters, strides):
    """Adds two 3x3 convolutions of `x` to `x`; `net` is a `TorchStyle`."""
    y = net.conv_norm_relu(x, filters, 3, strides)
    return _add_relu(net, x, net.norm(net.conv(y, filters, 3)), strides)


def bottleneck(net, x, width, filters, strides, groups=1):
    """Adds to `x` its 1x1, 3x3 and 1x1 convolution with `width`, `width` (in groups) and `filters` filters."""
    y = net.conv_norm_relu(x, width, 1)
    y = net.conv_norm_relu(y, width, 3, strides, groups)
    return _add_relu(net, x, net.norm(net.conv(y, filters, 1)), strides)


def _add_relu(net, x, y, strides):
    filters = y.shape[-1]
    shortcut = net.norm(net.conv(x, filters, 1, strides)) if strides > 1 or x.shape[-1] != filters else x
    return layers.ReLU()(layers.Add()([shortcut, y]))


for depth in BASIC | BOTTLENECK:
    register(f"resnet{depth}", ResNet, depth=depth)
