"""What the tests of the feature extractor share: a network of given weights, its outputs by NumPy, batches."""

import keras
import numpy as np
import pytest
from keras import layers

TENSORFLOW = keras.backend.backend() == "tensorflow"
on_tensorflow = pytest.mark.skipif(not TENSORFLOW, reason="what tf.data and tf.distribute give")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(21, 6)).astype("float32")
Y = RNG.integers(0, 3, 21)
HIDDEN = RNG.normal(size=(6, 5)).astype("float32"), RNG.normal(size=5).astype("float32")
HEAD = RNG.normal(size=(5, 3)).astype("float32"), RNG.normal(size=3).astype("float32")


def expected(x=X, hidden=HIDDEN, head=HEAD):
    """Returns features and logits of the network of `HIDDEN` and `HEAD`, by NumPy."""
    features = np.maximum(x.astype("float64") @ hidden[0] + hidden[1], 0)
    return features, features @ head[0] + head[1]


def hidden_and_head(activation=None):
    return [layers.Dense(5, activation="relu", name="hidden"), layers.Dense(3, activation=activation, name="head")]


def inner(activation=None, name=None):
    return keras.Sequential([layers.Input((6,)), *hidden_and_head(activation)], name=name)


def weighted(model, weights=(*HIDDEN, *HEAD)):
    if not model.built:
        model(X[:1])
    model.set_weights(weights)
    return model


def with_functions(function):
    x = keras.Input((6,))
    hidden, head = hidden_and_head()
    return keras.Model(x, function(head(hidden(x))))


def twice_nested(activation=None):
    middle = keras.Sequential([layers.Input((6,)), layers.Rescaling(2.0), inner(activation)])
    x = keras.Input((6,))
    return keras.Model(x, middle(layers.Rescaling(0.5)(x)))


def without_input():
    """A Sequential model that is built by its first call."""
    model = keras.Sequential(hidden_and_head())
    model(X[:1])
    return model


class OfLayers(keras.Model):
    """A subclass of `keras.Model` that is functional all the same."""

    def __init__(self):
        x = keras.Input((6,))
        hidden, head = hidden_and_head()
        super().__init__(x, head(hidden(x)))


LINEAR = {
    "linear": inner,
    "named linear": lambda: inner("linear"),
    "functional": lambda: with_functions(lambda x: x),
    "functional subclass": OfLayers,
    "built by its call": without_input,
    "nested": lambda: keras.Sequential([layers.Input((6,)), layers.Rescaling(1.0), inner()]),
    "twice nested": twice_nested,
    "linear activation layer": lambda: keras.Sequential([*inner().layers, layers.Activation("linear")]),
}
SOFTMAX = {
    "softmax": lambda: inner("softmax"),
    "softmax layer": lambda: keras.Sequential([layers.Input((6,)), *hidden_and_head(), layers.Softmax()]),
    "activation layer": lambda: keras.Sequential(
        [layers.Input((6,)), *hidden_and_head(), layers.Activation("softmax", dtype="float32")]
    ),
    "softmax function": lambda: with_functions(keras.activations.softmax),
    "nested softmax": lambda: keras.Sequential([layers.Input((6,)), layers.Rescaling(1.0), inner("softmax")]),
    "nested, softmax outside": lambda: keras.Sequential([layers.Input((6,)), inner(), layers.Softmax()]),
    "twice nested softmax": lambda: twice_nested("softmax"),
}
ENDINGS = {**LINEAR, **SOFTMAX}


class Opaque(keras.Model):
    """A model that is not built from a graph of layers."""

    def __init__(self, activation=None, **arguments):
        super().__init__(**arguments)
        self.hidden, self.head = hidden_and_head(activation)

    def call(self, x):
        return self.head(self.hidden(x))
