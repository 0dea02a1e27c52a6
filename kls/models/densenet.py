"""Densely connected networks for small images (Huang et al. 2017)."""

import keras
from keras import layers

from kls.models.checks import blocks_per_stage, check_input_shape
from kls.models.preactivated import preactivated_layers
from kls.models.registry import register
from kls.targets import check_classes


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
    check_input_shape(input_shape)
    check_classes(classes)
    conv, norm_relu, penalty = preactivated_layers(l2, synchronized)

    def norm_relu_conv(x, filters, kernel_size):
        x = conv(filters, kernel_size)(norm_relu(x))
        return layers.Dropout(dropout)(x) if dropout else x

    inputs = layers.Input(input_shape)
    x = conv(2 * growth_rate, 3)(inputs)
    for block in range(3):
        if block > 0:
            x = layers.AveragePooling2D(2)(norm_relu_conv(x, x.shape[-1], 1))
        for _ in range(layers_per_block):
            x = layers.Concatenate()([x, norm_relu_conv(x, growth_rate, 3)])
    x = layers.GlobalAveragePooling2D(name="features")(norm_relu(x))
    outputs = layers.Dense(
        int(classes),
        activation=classifier_activation,
        kernel_regularizer=penalty,
        bias_regularizer=penalty,
        dtype="float32",
        name="classifier",
    )(x)
    return keras.Model(inputs, outputs, name=name or f"densenet{depth}-{growth_rate}")


register("densenet10-12", DenseNet, depth=10, growth_rate=12)
register("densenet40-12", DenseNet, depth=40, growth_rate=12)
