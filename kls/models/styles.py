"""What the networks share: how they begin and end, and the layers in between, in Keras's style and in Torch's."""

import keras
from keras import layers
from keras.regularizers import L2

from kls.layers import BatchNormalization
from kls.models.checks import check_network
from kls.models.grouped_convolution import GroupedConv2D
from kls.utils.arrays import check_number


class Style:
    """A network that is being built, from its images to its classifier; a subclass says what its layers are like.

    Args:
        input_shape: `(height, width, channels)`.
        classes: Number of classes K.
        classifier_activation: Activation of the last layer.
        l2: L2 penalty, or 0.
        synchronized: Whether batch normalisation sees the batch of all replicas.

    Attributes:
        inputs: The images.
        penalty: The regulariser of `l2`, `None` for 0.

    Raises:
        ValueError: If such a network cannot be built.
    """

    def __init__(self, input_shape, classes, classifier_activation, l2, synchronized):
        check_network(input_shape, classes, classifier_activation)
        check_number(l2, "l2", "[0, inf)")
        self.inputs = layers.Input(input_shape)
        self.classes = int(classes)
        self.activation = classifier_activation
        self.penalty = L2(float(l2)) if l2 else None
        self.synchronized = synchronized

    def norm_relu(self, x):
        """Applies a normalisation and a ReLU."""
        return layers.ReLU()(self.norm(x))

    def conv_norm_relu(self, *args, **kwargs):
        """Applies a convolution, of arguments as in `conv`, a normalisation and a ReLU."""
        return self.norm_relu(self.conv(*args, **kwargs))

    def classify(self, x, **options):
        """Applies global average pooling and a linear layer of further arguments."""
        x = layers.GlobalAveragePooling2D(name="features")(x)
        return layers.Dense(self.classes, activation=self.activation, dtype="float32", name="classifier", **options)(x)

    def model(self, x, name):
        """Returns the model that classifies what becomes of `inputs`."""
        return keras.Model(self.inputs, self.classify(x), name=name)


class KerasStyle(Style):
    """Keras's CIFAR example: convolutions with biases, He initialisation, a penalty on the convolutions' kernels."""

    def conv(self, x, filters, kernel_size, strides=1):
        return layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=self.penalty,
        )(x)

    def norm(self, x):
        return BatchNormalization(synchronized=self.synchronized)(x)

    def classify(self, x):
        return super().classify(x, kernel_initializer="he_normal")


class TorchStyle(Style):
    """Torch's networks: convolutions padded on all sides and without biases, a penalty on all trainable weights.

    Kernels of convolutions are drawn from N(0, sqrt(2 / (k^2 filters))). Normalisation has PyTorch's momentum and, as
    nearly as the fused kernel takes it, epsilon.
    """

    def conv(self, x, filters, kernel_size, strides=1, groups=1):
        halves = strides > 1 and kernel_size > 1  # there "same" pads even sides after the image alone
        convolution = GroupedConv2D if groups > 1 else layers.Conv2D
        return convolution(
            filters,
            kernel_size,
            strides=strides,
            padding="valid" if halves else "same",
            groups=groups,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            kernel_regularizer=self.penalty,
        )(layers.ZeroPadding2D(kernel_size // 2)(x) if halves else x)

    def norm(self, x):
        return BatchNormalization(
            momentum=0.9,
            epsilon=1.001e-5,
            gamma_regularizer=self.penalty,
            beta_regularizer=self.penalty,
            synchronized=self.synchronized,
        )(x)

    def classify(self, x):
        return super().classify(x, kernel_regularizer=self.penalty, bias_regularizer=self.penalty)


def blocks(widths, counts):
    """Yields the width and the strides of each block: all stages but the first halve the image in their first block.

    Args:
        widths: The width of the blocks of each stage.
        counts: The number of blocks of each stage.

    Example:

    >>> list(blocks((16, 32), (2, 2)))
    [(16, 1), (16, 1), (32, 2), (32, 1)]
    """
    for stage, (width, count) in enumerate(zip(widths, counts, strict=True)):
        for block in range(count):
            yield width, 2 if stage > 0 and block == 0 else 1
