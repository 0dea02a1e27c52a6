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
