"""A classifier and a denoising autoencoder on one trunk."""

import keras
from keras import layers

from kls.models.registry import register
from kls.models.resnet import basic_block
from kls.models.styles import TorchStyle
from kls.utils.arrays import shown

WIDTHS = (32, 64, 128)
BLOCKS = 2


def DenoisingClassifier(
    input_shape=(28, 28, 1),
    classes=10,
    classifier_activation="softmax",
    l2=0.0,
    synchronized=False,
    name="denoising_classifier",
):
    """Builds the network of Song, "Deep Learning Lab final project report": one trunk, a class and an image.

    ResNet-18 (He et al. 2015, "Deep residual learning for image recognition") without its last stage, in the form for
    small images of `kls.models.ResNet`. The last stage, which is omitted, has 256 channels (section 3.1), so the three
    others have 32, 64 and 128. The first ten convolutions, those of the first two stages with the shortcut's, are
    shared. The third stage and a linear layer make the classifier. The decoder takes the shared features down to a
    quarter of the image's side by one more convolution, as deep as the classifier's, and up again by two steps of
    doubling (nearest neighbour) and a 3x3 convolution.

    The paper's Figure 2, which shows the network, gives no sizes that can be read: the widths, what counts as one of
    the ten layers, and the decoder are readings of its text.

    Args:
        input_shape: `(height, width, channels)`, sides that 4 divides, of at least 8, 1 or 3 channels.
        classes: Number of classes K.
        classifier_activation: Activation of the class output; `None` returns logits.
        l2: L2 penalty on all trainable weights, the scales and offsets of the normalisation included.
        synchronized: Whether batch normalisation sees the batch of all replicas (TensorFlow only).
        name: Name of the model.

    Returns:
        A `keras.Model` from images of shape `(N, height, width, channels)` to a dictionary: `"class"` of shape
        `(N, K)` and `"image"` of the shape of the images, float32, in their units and without bounds.
        `classifier_of` returns the part that a single output is asked of.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> model = DenoisingClassifier((28, 28, 1), classes=9)
    >>> {name: output.shape[1:] for name, output in model.output.items()}
    {'class': (9,), 'image': (28, 28, 1)}

    Usage with `compile()` and `decathlon.Denoising`, whose batches hold both targets:

    ```python
    model.compile("adam", loss={"class": kls.FocalStd(), "image": "mse"}, metrics={"class": "accuracy"})
    model.fit(decathlon.Denoising(batches, decathlon.Noise()), epochs=10)
    ```
    """
    net = TorchStyle(input_shape, classes, classifier_activation, l2, synchronized)
    if input_shape[0] % 4 or input_shape[1] % 4:
        raise ValueError(f"`input_shape` must have sides that 4 divides. Received: input_shape={input_shape}")

    def stage(x, filters, strides):
        for block in range(BLOCKS):
            x = basic_block(net, x, filters, strides if block == 0 else 1)
        return x

    narrow, middle, wide = WIDTHS
    shared = stage(stage(net.conv_norm_relu(net.inputs, narrow, 3), narrow, 1), middle, 2)
    outputs = net.classify(stage(shared, wide, 2))

    x = net.conv_norm_relu(shared, wide, 3, strides=2)
    for filters in (middle, narrow):
        x = net.conv_norm_relu(layers.UpSampling2D()(x), filters, 3)
    image = layers.Conv2D(input_shape[-1], 3, padding="same", dtype="float32", name="image")(x)
    return keras.Model(net.inputs, {"class": outputs, "image": image}, name=name)


def classifier_of(model):
    """Returns the classifier of a `DenoisingClassifier`: a model of the same weights with its class output alone.

    Args:
        model: A Keras model. One without a dictionary of outputs with `"class"` among them is returned as it is.

    Raises:
        ValueError: If `model` is no Keras model.

    Example:

    >>> classifier_of(DenoisingClassifier(classes=9)).output_shape
    (None, 9)
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a Keras model. Received: model={shown(model)}")
    output = getattr(model, "output", None)
    if not isinstance(output, dict) or "class" not in output:
        return model
    return keras.Model(model.input, output["class"], name=f"{model.name}_class")


register("denoising_classifier", DenoisingClassifier)
