"""Classifiers of Keras that end otherwise than in a `Dense` of several outputs, shared by tests."""

import keras
import numpy as np
from keras import layers

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(40, 5, 4, 2)).astype("float32")
LABELS = np.arange(40) % 3


def body():
    return [layers.Input((5, 4, 2)), layers.Conv2D(6, 2, activation="relu")]


def pooled(*last):
    return keras.Sequential([*body(), layers.GlobalAveragePooling2D(keepdims=True), *last])


def flat(*last):
    return keras.Sequential([*body(), layers.Flatten(), *last])


def with_function(function):
    model = flat(layers.Dense(1))
    return keras.Model(model.inputs, function(model.outputs[0]))


def nested(inner, *last):
    return keras.Sequential([layers.Input((5, 4, 2)), layers.Rescaling(1.0), inner, *last])


def head(classes=3, **arguments):
    return layers.Conv2D(classes, 1, **arguments)


HEADS = {
    "flatten": lambda: pooled(head(), layers.Flatten()),
    "flatten, softmax layer": lambda: pooled(head(), layers.Flatten(), layers.Softmax()),
    "flatten, activation": lambda: pooled(head(use_bias=False), layers.Flatten(), layers.Activation("softmax")),
    "softmax, flatten": lambda: pooled(head(activation="softmax"), layers.Flatten()),
    "softmax layer, flatten": lambda: pooled(head(), layers.Softmax(), layers.Flatten()),
    "reshape, activation": lambda: pooled(head(), layers.Reshape((3,)), layers.Activation("softmax")),
    "pooling": lambda: keras.Sequential([*body(), head(), layers.GlobalAveragePooling2D()]),
    "pooling, softmax": lambda: keras.Sequential([*body(), head(), layers.GlobalAveragePooling2D(), layers.Softmax()]),
    "linear, pooling, flatten": lambda: keras.Sequential(
        [*body(), head(), layers.Activation("linear"), layers.GlobalAveragePooling2D(keepdims=True), layers.Flatten()]
    ),
    "dense on maps, pooling": lambda: keras.Sequential([*body(), layers.Dense(3), layers.GlobalAveragePooling2D()]),
    "nested": lambda: nested(pooled(head(), layers.Flatten(), layers.Softmax())),
    "nested, pooling outside": lambda: nested(
        keras.Sequential([*body(), head()]), layers.GlobalAveragePooling2D(), layers.Softmax()
    ),
    "sigmoid": lambda: flat(layers.Dense(1, activation="sigmoid")),
    "sigmoid layer": lambda: flat(layers.Dense(1, use_bias=False), layers.Activation("sigmoid")),
    "sigmoid function": lambda: with_function(keras.activations.sigmoid),
    "logit": lambda: flat(layers.Dense(1)),
    "nested sigmoid": lambda: nested(flat(layers.Dense(1, activation="sigmoid"))),
    "convolution, sigmoid": lambda: keras.Sequential(
        [*body(), head(1), layers.GlobalAveragePooling2D(), layers.Activation("sigmoid")]
    ),
}


def made(name):
    """Returns a model of random weights, large enough for its outputs to differ."""
    keras.utils.set_random_seed(1)
    model = HEADS[name]()
    rng = np.random.default_rng(2)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def both(outputs):
    """Returns what a model gives as the probabilities of all classes, one output being a probability or a logit."""
    if outputs.shape[1] > 1:
        is_logit = np.abs(outputs.sum(axis=1) - 1).max() > 0.02
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True) if is_logit else outputs
    p = outputs if ((outputs >= 0) & (outputs <= 1)).all() else 1 / (1 + np.exp(-outputs))
    return np.hstack([1 - p, p])
