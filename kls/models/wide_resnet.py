"""Wide residual networks (Zagoruyko & Komodakis 2016)."""

from keras import layers

from kls.layers import Dropout
from kls.models.checks import blocks_per_stage
from kls.models.registry import register
from kls.models.styles import TorchStyle, blocks
from kls.utils.arrays import check_number, check_whole


def WideResNet(
    depth=40,
    width=2,
    input_shape=(32, 32, 3),
    classes=10,
    classifier_activation="softmax",
    dropout=0.3,
    l2=2.5e-4,
    synchronized=False,
    name=None,
):
    """Builds WRN-depth-width of Zagoruyko & Komodakis 2016, "Wide residual networks".

    Three stages of n pre-activation blocks (3x3, dropout, 3x3) with 16, 32 and 64 times `width` filters;
    depth = 6n + 4. As in the code of Hendrycks et al. 2019 (outlier exposure), which Lee & Cheon 2020 train:
    no biases in the convolutions, kernels drawn from N(0, sqrt(2 / (k^2 filters))), the 1x1 shortcut of a
    widening block taken after its pre-activation. Batch normalisation has PyTorch's momentum and, but for
    the 0.1 % that the fused kernel asks for, its epsilon of 1e-5.

    Args:
        depth: 6n + 4: 10, 16, 22, 28, 34, 40, ...
        width: Factor of the number of filters.
        input_shape: `(height, width, channels)`, sides of at least 8, 1 or 3 channels.
        classes: Number of classes K.
        classifier_activation: Activation of the last layer; `None` returns logits.
        dropout: Share of activations dropped between the two convolutions of a block.
        l2: L2 penalty on all trainable weights, the scales and offsets of the normalisation included;
            `l2 * |w|^2` is a weight decay of `2 * l2` in PyTorch's SGD, so the default is the authors' 5e-4.
        synchronized: Whether batch normalisation sees the batch of all replicas (TensorFlow only).
        name: Name of the model.

    Returns:
        A `keras.Model` from images of shape `(N, height, width, channels)` to `(N, K)`.

    Raises:
        ValueError: If an argument is not as above; for a wrong depth with the nearest valid ones.

    Example:

    >>> WideResNet(40, 2, classes=10).name
    'wrn40-2'
    """
    count = blocks_per_stage(depth, layers_per_block=6, extra_layers=4)
    width = check_whole(width, "width", 1)
    dropout = check_number(dropout, "dropout", "[0, 1)")
    net = TorchStyle(input_shape, classes, classifier_activation, l2, synchronized)
    x = net.conv(net.inputs, 16, 3)
    for filters, strides in blocks((16 * width, 32 * width, 64 * width), (count,) * 3):
        preactivated = net.norm_relu(x)
        shortcut = net.conv(preactivated, filters, 1, strides) if strides > 1 or x.shape[-1] != filters else x
        y = net.conv_norm_relu(preactivated, filters, 3, strides)
        if dropout:
            y = Dropout(dropout)(y)
        x = layers.Add()([shortcut, net.conv(y, filters, 3)])
    return net.model(net.norm_relu(x), name or f"wrn{depth}-{width}")


for depth, width in ((10, 1), (16, 2), (40, 2)):
    register(f"wrn{depth}-{width}", WideResNet, depth=depth, width=width)
