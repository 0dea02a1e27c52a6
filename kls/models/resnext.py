"""Residual networks of grouped convolutions for small images (Xie et al. 2017)."""

from kls.models.checks import blocks_per_stage
from kls.models.registry import register
from kls.models.resnet import bottleneck
from kls.models.styles import TorchStyle, blocks
from kls.utils.arrays import check_whole


def ResNeXt(
    depth=29,
    cardinality=4,
    width=64,
    input_shape=(32, 32, 3),
    classes=10,
    classifier_activation="softmax",
    l2=2.5e-4,
    synchronized=False,
    name=None,
):
    """Builds the CIFAR form of Xie et al. 2017, "Aggregated residual transformations for deep neural networks".

    Three stages of n bottlenecks (1x1, 3x3 in `cardinality` groups, 1x1), whose 3x3 convolutions have `cardinality`
    times `width`, twice and four times `width` filters; depth = 9n + 2. As in the networks of kuangliu/pytorch-cifar,
    which have the 27.1 M parameters of the label distribution learning paper at 4x64d, a bottleneck gives out twice
    the channels of its 3x3 convolution and the first convolution is 1x1; the authors' networks give out 256, 512 and
    1024 channels whatever the cardinality, after a first convolution of 3x3. Initialisation and normalisation are those
    of `ResNet`.

    Args:
        depth: 9n + 2: 11, 20, 29, ...
        cardinality: Number of groups.
        width: Number of channels of a group in the first stage.
        input_shape: `(height, width, channels)`, sides of at least 8, 1 or 3 channels.
        classes: Number of classes K.
        classifier_activation: Activation of the last layer; `None` returns logits.
        l2: L2 penalty on all trainable weights, the scales and offsets of the normalisation included;
            `l2 * |w|^2` is a weight decay of `2 * l2` in Torch's SGD, so the default is the authors' 5e-4.
        synchronized: Whether batch normalisation sees the batch of all replicas (TensorFlow only).
        name: Name of the model.

    Returns:
        A `keras.Model` from images of shape `(N, height, width, channels)` to `(N, K)`.

    Raises:
        ValueError: If an argument is not as above; for a wrong depth with the nearest valid ones.

    Example:

    >>> ResNeXt(11, cardinality=2, width=4).name
    'resnext11-2x4d'
    """
    count = blocks_per_stage(depth, layers_per_block=9, extra_layers=2)
    cardinality, width = check_whole(cardinality, "cardinality", 1), check_whole(width, "width", 1)
    net = TorchStyle(input_shape, classes, classifier_activation, l2, synchronized)
    x = net.conv_norm_relu(net.inputs, 64, 1)
    for factor, strides in blocks((1, 2, 4), (count,) * 3):
        grouped = factor * cardinality * width
        x = bottleneck(net, x, grouped, 2 * grouped, strides, cardinality)
    return net.model(x, name or f"resnext{depth}-{cardinality}x{width}d")


register("resnext29-4x64d", ResNeXt, depth=29, cardinality=4, width=64)
