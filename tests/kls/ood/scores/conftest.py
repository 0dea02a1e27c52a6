import keras
import numpy as np
import pytest
from keras import layers

from kls.utils.feature_extractor import Network

from .given import BIAS, KERNEL, MODELS, opaque_probabilities


@pytest.fixture(scope="module")
def head():
    """A model of the last layer alone: its features are the images."""
    model = keras.Sequential([layers.Input((8,)), layers.Dense(5)])
    model.set_weights([KERNEL, BIAS])
    return model


@pytest.fixture(scope="module")
def deep():
    return MODELS["linear"]()


@pytest.fixture(scope="module")
def head_network(head):
    return Network(head)


@pytest.fixture(scope="module")
def deep_network(deep):
    """What compiles the model once for several tests."""
    return Network(deep)


@pytest.fixture(scope="module")
def opaque_network():
    return Network(opaque_probabilities())


@pytest.fixture(scope="module")
def blobs():
    """A network with a ReLU, three Gaussians that it tells apart, and one between and beside them."""
    rng = np.random.default_rng(5)
    labels = np.arange(180) % 3
    train, id_images = (np.eye(6)[labels] * 6 + rng.normal(scale=0.5, size=(180, 6)) for _ in range(2))
    ood_images = np.r_[np.zeros(3), np.full(3, 3.0)] + rng.normal(scale=0.5, size=(90, 6))
    model = keras.Sequential([layers.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(3)])
    hidden = np.concatenate([np.eye(6), rng.normal(scale=0.1, size=(6, 2))], axis=1)
    out = np.concatenate([np.eye(3) * 2, np.full((3, 3), -0.2), np.zeros((2, 3))])
    model.set_weights([hidden, np.zeros(8), out, np.full(3, -1.0)])
    return Network(model), train.astype("float32"), labels, id_images.astype("float32"), ood_images.astype("float32")
