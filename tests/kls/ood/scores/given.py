"""What the tests of the OOD scores share: given numbers, models, formulas of NumPy."""

import json
from pathlib import Path

import keras
import numpy as np
from keras import layers

TENSORFLOW = keras.backend.backend() == "tensorflow"
GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
GIVEN = {name: np.array(values) for name, values in GOLDEN["inputs"].items()}
TRAIN, TEST, LABELS = GIVEN["train"].astype("float32"), GIVEN["test"].astype("float32"), GIVEN["labels"]
KERNEL, BIAS, IMAGES = GIVEN["kernel"], GIVEN["bias"], GIVEN["images"].astype("float32")
LOGITS = TEST @ KERNEL + BIAS
OF_LOGITS = ["msp", "max_logit", "energy", "entropy", "gen"]
OF_PROBABILITIES = ["msp", "entropy", "gen", "odin", "kl_matching"]
FITTED = ["mahalanobis", "relative_mahalanobis", "knn", "vim", "react", "kl_matching"]


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def logsumexp(logits):
    return np.log(np.exp(logits).sum(axis=1))


def hidden_layer():
    return layers.Dense(8, activation="tanh", name="hidden")


class Opaque(keras.Model):
    def __init__(self, activation=None):
        super().__init__()
        self.hidden, self.head = hidden_layer(), layers.Dense(5, activation=activation)

    def call(self, x):
        return self.head(self.hidden(x))


def weighted(model):
    if not model.built:
        model(IMAGES[:1])
    model.set_weights([GIVEN["hidden_kernel"], GIVEN["hidden_bias"], KERNEL, BIAS])
    return model


def sequential(*last):
    return weighted(keras.Sequential([layers.Input((6,)), hidden_layer(), *last]))


def nested(activation=None):
    inner = keras.Sequential([layers.Input((6,)), hidden_layer(), layers.Dense(5, activation=activation)])
    return weighted(keras.Sequential([layers.Input((6,)), layers.Rescaling(1.0), inner]))


def deep_logits(images=IMAGES):
    """Returns the logits of the network of two layers, by NumPy in float64."""
    images = images.astype("float64")
    return np.tanh(images @ GIVEN["hidden_kernel"] + GIVEN["hidden_bias"]) @ KERNEL + BIAS


def opaque_probabilities():
    return weighted(Opaque("softmax"))


MODELS = {
    "linear": lambda: sequential(layers.Dense(5)),
    "softmax": lambda: sequential(layers.Dense(5, activation="softmax")),
    "softmax layer": lambda: sequential(layers.Dense(5), layers.Softmax()),
    "activation layer": lambda: sequential(layers.Dense(5), layers.Activation("softmax")),
    "nested": nested,
    "nested softmax": lambda: nested("softmax"),
    "opaque": lambda: weighted(Opaque()),
}
