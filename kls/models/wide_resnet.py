"""Wide residual networks (Zagoruyko & Komodakis 2016)."""

import keras
from keras import layers

from kls.layers import Dropout
from kls.models.checks import blocks_per_stage, check_network
from kls.models.registry import register
from kls.models.torch_style import torch_style_layers
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
    blocks = blocks_per_stage(depth, layers_per_block=6, extra_layers=4)
    check_network(input_shape, classes, classifier_activation)
    width = check_whole(width, "width", 1)
    dropout = check_number(dropout, "dropout", "[0, 1)")
    conv, norm, classify = torch_style_layers(l2, synchronized)

    inputs = layers.Input(input_shape)
    x = conv(16, 3)(inputs)
    for stage, filters in enumerate((16 * width, 32 * width, 64 * width)):
        for block in range(blocks):
            strides = 2 if stage > 0 and block == 0 else 1
            preactivated = layers.ReLU()(norm(x))
            widens = x.shape[-1] != filters
            shortcut = conv(filters, 1, strides=strides)(preactivated) if widens or strides > 1 else x
            y = layers.ReLU()(norm(conv(filters, 3, strides=strides)(preactivated)))
            if dropout:
                y = Dropout(dropout)(y)
            x = layers.Add()([shortcut, conv(filters, 3)(y)])
    outputs = classify(layers.ReLU()(norm(x)), classes, classifier_activation)
    return keras.Model(inputs, outputs, name=name or f"wrn{depth}-{width}")


register("wrn10-1", WideResNet, depth=10, width=1)
register("wrn16-2", WideResNet, depth=16, width=2)
register("wrn40-2", WideResNet, depth=40, width=2)
