"""EfficientNet-Lite0, pretrained on ImageNet, as a function of one's own: `kls.Study` takes it by its file and name.

    KLS_LITE0=efficientnet_lite0.npz python -c '
    import kls
    kls.Study("examples/efficientnet_lite0.py:lite0_128", "cifar10", epochs=5, learning_rate=1e-4).run()'

The file holds the network's PyTorch state dict, an array for each of its names, such as `_blocks.3._bn1.running_mean`.
All weights but those of batch normalisation are trained, at a small rate: at 1e-3 Adam unlearns what they have learnt.
"""

import os

import keras
import numpy as np
from keras import layers

WEIGHTS = "KLS_LITE0"  # the environment variable that holds the path of the weights
STAGES = (  # number of blocks, side of their kernels, stride of the first, expansion, width
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def build(input_shape, classes, side=None):
    """Builds a classifier of a pretrained EfficientNet-Lite0 and a new last layer.

    Its layers are those of one flat functional model. As in Keras's example of fine-tuning an EfficientNet, the batch
    normalisation is frozen: its statistics, scales and offsets stay those of ImageNet.

    Args:
        input_shape: `(height, width, channels)`, 1 or 3 channels.
        classes: Number of classes K.
        side: Side in pixels to which the network resizes its images; `None` takes them as they are.

    Returns:
        A `keras.Model` from pixels in [0, 255] to logits of shape `(N, K)`.

    Raises:
        ValueError: If the environment variable `KLS_LITE0` is not the path of a file.
    """
    inputs, features = _backbone(input_shape, side)
    _load(keras.Model(inputs, features))
    x = layers.Dropout(0.2, name="dropout")(features)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x), name="efficientnet_lite0")


def build_at(side):
    """Returns the function that builds the network for images which it resizes to a side in pixels."""

    def build_at_side(input_shape, classes):
        return build(input_shape, classes, side)

    build_at_side.__name__ = build_at_side.__qualname__ = f"lite0_{side}"  # what other processes find it by
    return build_at_side


lite0_96 = build_at(96)
lite0_128 = build_at(128)
lite0_160 = build_at(160)
lite0_224 = build_at(224)


def imagenet_classifier():
    """Returns the network with the last layer that it was trained with.

    It takes pixels of shape `(N, 224, 224, 3)`, and returns logits of the 1000 classes.
    """
    inputs, features = _backbone((224, 224, 3))
    model = keras.Model(inputs, layers.Dense(1000, name="fc")(features), name="efficientnet_lite0")
    _load(model)
    return model


def _backbone(input_shape, side=None):
    x = inputs = keras.Input(input_shape)
    if input_shape[-1] == 1:
        x = layers.Concatenate(name="colours")([x, x, x])
    if side is not None:
        resizing = layers.Resizing(side, side, name="resizing")
        x = resizing(x, training=False)  # its default, True, would be that of the layers after it
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescaling")(x)
    x = _relu6(_norm(_conv(x, 32, 3, 2, "conv_stem"), "bn0"), "relu_stem")
    count = 0
    for blocks, kernel, stride, expansion, width in STAGES:
        for index in range(blocks):
            x = _block(x, kernel, 1 if index else stride, expansion, width, f"blocks.{count}")
            count += 1
    x = _relu6(_norm(_conv(x, 1280, 1, 1, "conv_head"), "bn1"), "relu_head")
    return inputs, layers.GlobalAveragePooling2D(name="features")(x)


def _block(inputs, kernel, stride, expansion, width, name):
    """Expands to more channels, convolves each by itself, and projects to `width` channels."""
    x = inputs
    if expansion > 1:
        x = _conv(x, expansion * x.shape[-1], 1, 1, f"{name}.expand_conv")
        x = _relu6(_norm(x, f"{name}.bn0"), f"{name}.relu0")
    depthwise = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}.depthwise_conv")
    x = _relu6(_norm(depthwise(x), f"{name}.bn1"), f"{name}.relu1")
    x = _norm(_conv(x, width, 1, 1, f"{name}.project_conv"), f"{name}.bn2")
    return layers.Add(name=f"{name}.add")([inputs, x]) if stride == 1 and inputs.shape[-1] == width else x


def _conv(x, filters, kernel, stride, name):
    return layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)


def _norm(x, name):
    # A call with `training=False` would not do: in `fit`, Keras 3 overrides it.
    return layers.BatchNormalization(epsilon=1e-3, trainable=False, name=name)(x)


def _relu6(x, name):
    return layers.ReLU(6, name=name)(x)


def _load(model):
    """Gives layers the arrays of the same name: `_blocks.3._bn1.weight` is of the layer `blocks.3.bn1`."""
    path = os.environ.get(WEIGHTS)
    if not path or not os.path.isfile(path):
        raise ValueError(
            f"`{WEIGHTS}` must be the path of an .npz file of EfficientNet-Lite0's weights. "
            f"Received: {WEIGHTS}={path!r}"
        )
    with np.load(path) as arrays:
        for layer in model.layers:
            if layer.weights:
                name = ".".join(part if part.isdigit() else f"_{part}" for part in layer.name.split("."))
                layer.set_weights(_converted(layer, name, arrays))


def _converted(layer, name, arrays):
    """Returns a layer's weights in Keras's order, with Keras's order of axes."""
    if isinstance(layer, layers.BatchNormalization):
        return [arrays[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    kernel = arrays[f"{name}.weight"]
    if isinstance(layer, layers.Dense):
        return [kernel.T, arrays[f"{name}.bias"]]
    axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return [kernel.transpose(axes)]
