"""Densely connected networks for small images (Huang et al. 2017)."""

from keras import layers

from kls.layers import Dropout
from kls.models.checks import blocks_of_depth, blocks_per_stage
from kls.models.registry import register
from kls.models.styles import TorchStyle
from kls.utils.arrays import check_number, check_whole

LAYERS_OF_BLOCKS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}


def DenseNet(
    depth=40,
    growth_rate=12,
    input_shape=(32, 32, 3),
    classes=10,
    classifier_activation="softmax",
    dropout=0.0,
    l2=5e-5,
    synchronized=False,
    name=None,
):
    """Builds the basic DenseNet of Huang et al. 2017, "Densely connected convolutional networks", for small images.

    Three dense blocks of n layers; each layer (normalisation, ReLU, 3x3) takes the outputs of all before it in its
    block, concatenated, and adds `growth_rate` channels to them; depth = 3n + 4. Between the blocks a 1x1 convolution,
    which keeps the number of channels, and an average pooling halve the image: no bottlenecks, no compression. The
    first convolution has `2 * growth_rate` filters, as in the authors' later code: DenseNet-40-12 then has the 1.06 M
    parameters that Lee & Cheon 2020 round to 1.1 M; the 16 filters of the first paper give 1.02 M. As in that code: no
    biases in the convolutions, kernels drawn from N(0, sqrt(2 / (k^2 filters))). Batch normalisation has Torch's
    momentum and, but for the 0.1 % that the fused kernel asks for, its epsilon of 1e-5.

    Args:
        depth: 3n + 4: 7, 10, 13, ..., 40, ...
        growth_rate: Number of channels that a layer adds.
        input_shape: `(height, width, channels)`, sides of at least 8, 1 or 3 channels.
        classes: Number of classes K.
        classifier_activation: Activation of the last layer; `None` returns logits.
        dropout: Share of activations dropped after each convolution but the first; the authors drop 0.2 where they
            train without augmentation.
        l2: L2 penalty on all trainable weights, the scales and offsets of the normalisation included;
            `l2 * |w|^2` is a weight decay of `2 * l2` in Torch's SGD, so the default is the authors' 1e-4.
        synchronized: Whether batch normalisation sees the batch of all replicas (TensorFlow only).
        name: Name of the model.

    Returns:
        A `keras.Model` from images of shape `(N, height, width, channels)` to `(N, K)`.

    Raises:
        ValueError: If an argument is not as above; for a wrong depth with the nearest valid ones.

    Example:

    >>> DenseNet(10, 12, classes=10).name
    'densenet10-12'
    """
    layers_per_block = blocks_per_stage(depth, layers_per_block=3, extra_layers=4)
    net = TorchStyle(input_shape, classes, classifier_activation, l2, synchronized)
    x = _dense_blocks(net, (layers_per_block,) * 3, growth_rate, False, dropout)
    return net.model(x, name or f"densenet{depth}-{growth_rate}")


def DenseNetBC(
    depth=121,
    growth_rate=32,
    input_shape=(32, 32, 3),
    classes=10,
    classifier_activation="softmax",
    dropout=0.0,
    l2=2.5e-4,
    synchronized=False,
    name=None,
):
    """Builds the ImageNet form of Huang et al. 2017, "Densely connected convolutional networks", for small images.

    Four dense blocks, of 6, 12, 24 and 16 layers in DenseNet-121 (table 1); each layer has a bottleneck of
    `4 * growth_rate` channels (1x1) before its 3x3 convolution, and a transition halves the number of channels along
    with the image. The first convolution is 3x3, without strides and pooling, as in the networks of
    kuangliu/pytorch-cifar: the image is halved three times. The label distribution learning paper counts DenseNet-121
    without its classifier, 6.95 M parameters; with 100 classes it has 7.05 M. The rest is as in `DenseNet`.

    Args:
        depth: 121, 169 or 201.
        growth_rate: Number of channels that a layer adds.
        input_shape: `(height, width, channels)`, sides of at least 8, 1 or 3 channels.
        classes: Number of classes K.
        classifier_activation: Activation of the last layer; `None` returns logits.
        dropout: Share of activations dropped after each convolution but the first.
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

    >>> DenseNetBC(121, growth_rate=4, input_shape=(8, 8, 1)).get_layer("features").output.shape
    (None, 128)
    """
    layers_of_blocks = blocks_of_depth(depth, LAYERS_OF_BLOCKS)
    net = TorchStyle(input_shape, classes, classifier_activation, l2, synchronized)
    x = _dense_blocks(net, layers_of_blocks, growth_rate, True, dropout)
    return net.model(x, name or f"densenet{depth}")


def _dense_blocks(net, layers_of_blocks, growth_rate, compact, dropout):
    """Applies the first convolution, the dense blocks, the transitions between them and the last normalisation.

    Args:
        net: A `TorchStyle`.
        layers_of_blocks: Number of layers of each block.
        growth_rate: Number of channels that a layer adds.
        compact: Whether layers have bottlenecks and transitions halve the number of channels.
        dropout: Share of activations dropped after each convolution but the first.
    """
    growth_rate = check_whole(growth_rate, "growth_rate", 1)
    dropout = check_number(dropout, "dropout", "[0, 1)")

    def norm_relu_conv(x, filters, kernel_size):
        x = net.conv(net.norm_relu(x), filters, kernel_size)
        return Dropout(dropout)(x) if dropout else x

    x = net.conv(net.inputs, 2 * growth_rate, 3)
    for block, count in enumerate(layers_of_blocks):
        if block > 0:
            channels = x.shape[-1] // 2 if compact else x.shape[-1]
            x = layers.AveragePooling2D(2)(norm_relu_conv(x, channels, 1))
        for _ in range(count):
            y = norm_relu_conv(x, 4 * growth_rate, 1) if compact else x
            x = layers.Concatenate()([x, norm_relu_conv(y, growth_rate, 3)])
    return net.norm_relu(x)


register("densenet10-12", DenseNet, depth=10, growth_rate=12)
register("densenet40-12", DenseNet, depth=40, growth_rate=12)
register("densenet121", DenseNetBC, depth=121, growth_rate=32)
