"""Networks of deep layer aggregation for small images (Yu et al. 2018)."""

from keras import layers

from kls.models.checks import blocks_of_depth
from kls.models.registry import register
from kls.models.resnet import basic_block
from kls.models.styles import TorchStyle

LEVELS = {34: (1, 2, 2, 1)}


def DLA(
    depth=34,
    input_shape=(32, 32, 3),
    classes=10,
    classifier_activation="softmax",
    l2=2.5e-4,
    synchronized=False,
    name=None,
):
    """Builds DLA-34 of Yu et al. 2018, "Deep layer aggregation", for small images.

    Three 3x3 convolutions with 16, 16 and 32 filters, then four trees of basic blocks (figure 3; of 1, 2, 2 and 1
    levels as in table 1) with 64, 128, 256 and 512 filters. A tree of one level is two blocks and a root, a 1x1
    convolution of both outputs, concatenated. A tree of two levels is one of one level and then another, whose root
    also joins the output of the first and that of a block beside it. Depth counts the layers on the longest path,
    roots included. The form is that of kuangliu/pytorch-cifar, which has the 16.29 M parameters of the label
    distribution learning paper. The authors' network for ImageNet begins with 7x7 and halves the image five times, not
    three, and in place of the block beside, the last root of the second, third and fourth tree joins the tree's pooled
    input. Initialisation, normalisation and shortcuts are those of `ResNet`.

    Args:
        depth: 34.
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

    >>> DLA(34, input_shape=(8, 8, 1), classes=10).get_layer("features").output.shape
    (None, 512)
    """
    levels = blocks_of_depth(depth, LEVELS)
    net = TorchStyle(input_shape, classes, classifier_activation, l2, synchronized)
    x = net.inputs
    for filters in (16, 16, 32):
        x = net.conv_norm_relu(x, filters, 3)
    for stage, filters in enumerate((64, 128, 256, 512)):
        x = _tree(net, x, levels[stage], filters, 2 if stage > 0 else 1)
    return net.model(x, name or f"dla{depth}")


def _tree(net, x, levels, filters, strides):
    """Applies a tree of one or two levels; a root joins the outputs of all its children."""
    children = []
    if levels == 2:
        skip = basic_block(net, x, filters, strides)
        x = _tree(net, x, 1, filters, strides)
        children, strides = [skip, x], 1
    left = basic_block(net, x, filters, strides)
    right = basic_block(net, left, filters, 1)
    return net.conv_norm_relu(layers.Concatenate()([*children, left, right]), filters, 1)


register("dla34", DLA, depth=34)
