"""Networks of a user's own."""

import keras
import numpy as np
from keras import layers

FACTOR = 0.5


def sequential(input_shape, classes):
    return keras.Sequential(
        [
            layers.Input(input_shape),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(classes, activation="softmax"),
        ]
    )


def with_state(input_shape, classes):
    """Has all that makes training hard to repeat."""
    return keras.Sequential(
        [
            layers.Input(input_shape),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(classes),
        ]
    )


def unbuilt(input_shape, classes):
    return keras.Sequential([layers.Flatten(), layers.Dense(classes)])


class Subclassed(keras.Model):
    def __init__(self, classes):
        super().__init__()
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(8, activation="relu")
        self.out = layers.Dense(classes, activation="softmax")

    def call(self, inputs):
        return self.out(self.hidden(self.flatten(inputs)))


def subclassed(input_shape, classes):
    return Subclassed(classes)


class SoftmaxInCall(Subclassed):
    def call(self, inputs):
        return keras.ops.softmax(keras.ops.log(super().call(inputs)))


def softmax_in_call(input_shape, classes):
    return SoftmaxInCall(classes)


def mobile_net(input_shape, classes):
    inputs = keras.Input(input_shape)
    colour = layers.Concatenate()([layers.UpSampling2D(4)(inputs)] * 3)
    net = keras.applications.MobileNetV3Small((32, 32, 3), weights=None, classes=classes, dropout_rate=0.0)
    return keras.Model(inputs, net(colour))


def mlp(input_shape, classes):
    x = inputs = keras.Input(input_shape)
    x = layers.Dense(8, activation="relu")(x)
    return keras.Model(inputs, layers.Softmax()(layers.Dense(classes)(x)))


def with_softmax(input_shape, classes):
    return keras.Sequential([*unbuilt(input_shape, classes).layers, layers.Softmax()])


def with_rescaling(input_shape, classes):
    return keras.Sequential(
        [layers.Input(input_shape), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(classes)]
    )


def wrong_outputs(input_shape, classes):
    return keras.Sequential([layers.Input(input_shape), layers.Flatten(), layers.Dense(1, activation="sigmoid")])


class Block(layers.Layer):
    """A layer of layers, without a `get_config`."""

    def __init__(self, inner, factor=1.0):
        super().__init__()
        self.inner, self._factor = inner, factor

    def build(self, input_shape):
        self.inner.build(input_shape)

    def call(self, inputs):
        return self._factor * self.inner(inputs)


def with_rescaling_in_a_block(input_shape, classes):
    return keras.Sequential(
        [layers.Input(input_shape), Block(layers.Rescaling(1 / 255)), layers.Flatten(), layers.Dense(classes)]
    )


def with_norm_in_a_block(input_shape, classes):
    return keras.Sequential(
        [layers.Input(input_shape), Block(layers.BatchNormalization()), layers.Flatten(), layers.Dense(classes)]
    )


def with_factor(factor):
    def build(input_shape, classes):
        return keras.Sequential(
            [layers.Input(input_shape), Block(layers.Flatten(), factor), layers.Dense(classes, activation="softmax")]
        )

    return build


def of_everything(input_shape, classes):
    """Has a graph, an operation, lambdas, a set in one, own layers, and a nested subclass."""
    x = inputs = keras.Input(input_shape)
    x = layers.Lambda(lambda x: x * len({"one", "two", "three"}))(keras.ops.relu(x))
    x = Block(layers.Conv2D(2, 3, activation=lambda x: keras.ops.tanh(x)))(x)
    return keras.Model(inputs, Subclassed(classes)(x))


def with_tensorflows_softmax(input_shape, classes):
    import tensorflow as tf

    return keras.Sequential(
        [layers.Input(input_shape), layers.Flatten(), layers.Dense(classes, activation=tf.nn.softmax)]
    )


def with_softmax_operation(input_shape, classes):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.ops.softmax(layers.Dense(classes)(layers.Flatten()(inputs))))


def with_nested_softmax(input_shape, classes):
    return keras.Sequential([layers.Input(input_shape), sequential(input_shape, classes)])


def with_logarithm(input_shape, classes):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.ops.log(layers.Dense(classes)(layers.Flatten()(inputs))))


def with_sigmoid(input_shape, classes):
    return keras.Sequential([layers.Input(input_shape), layers.Flatten(), layers.Dense(classes, activation="sigmoid")])


def probabilities_for_pixels(input_shape, classes):
    """Tells scales apart sample by sample."""
    x = inputs = keras.Input(input_shape)
    logits = layers.Dense(classes)(layers.Flatten()(x))
    are_pixels = keras.ops.max(layers.Flatten()(x), axis=1, keepdims=True) > 2
    return keras.Model(inputs, keras.ops.where(are_pixels, keras.ops.softmax(logits), logits))


class Tagged(Subclassed):
    def __init__(self, classes):
        super().__init__(classes)
        self.tag = np.random.default_rng(0)


def not_serialisable(input_shape, classes):
    return Tagged(classes)


def with_nested_softmax_layer(input_shape, classes):
    return keras.Sequential([layers.Input(input_shape), layers.Flatten(), mlp((np.prod(input_shape),), classes)])


class Wired(keras.Model):
    """A subclass that keeps the graph to itself."""

    def __init__(self, input_shape, classes, operation):
        inputs = keras.Input(input_shape)
        super().__init__(inputs, layers.Dense(classes)(operation(layers.Flatten()(inputs))))


def one_sigmoid(input_shape, classes):
    last = layers.Dense(1, activation="sigmoid", name="head")
    return keras.Sequential([layers.Input(input_shape), layers.Flatten(), last])


def one_sigmoid_layer(input_shape, classes):
    last = [layers.Dense(1, name="head"), layers.Activation("sigmoid")]
    return keras.Sequential([layers.Input(input_shape), layers.Flatten(), *last])


def one_sigmoid_operation(input_shape, classes):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.ops.sigmoid(layers.Dense(1, name="head")(layers.Flatten()(inputs))))


def one_logit(input_shape, classes):
    return keras.Sequential([layers.Input(input_shape), layers.Flatten(), layers.Dense(1, name="head")])


def one_nested_sigmoid(input_shape, classes):
    return keras.Sequential([layers.Input(input_shape), one_sigmoid(input_shape, classes)])


def convolution_and_softmax(input_shape, classes):
    last = [layers.Conv2D(classes, 1), layers.Flatten(), layers.Activation("softmax")]
    return keras.Sequential([layers.Input(input_shape), layers.GlobalAveragePooling2D(keepdims=True), *last])
