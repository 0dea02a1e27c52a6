"""What the tests of guarded models share."""

import keras
import numpy as np

import kls
from kls.ood.scores import SCORES

IN_A_GRAPH = [name for name in SCORES if name != "odin"]
OUTPUTS = {"probabilities": "float32", "label": "int32", "score": "float32", "in_distribution": "bool"}


def classifier(activation=None):
    """A small network of the images as they are stored."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            kls.layers.Pixels(np.full((8, 8, 1), 0.3)),
            keras.layers.Flatten(),
            keras.layers.Dense(24, activation="relu", name="hidden"),
            keras.layers.Dense(10, activation=activation),
        ]
    )


def predicted(guarded, images):
    return guarded.predict(images, batch_size=64, verbose=0)


def assert_close(found, expected, threshold, tolerance=1e-4):
    """Asserts that outputs are those of another runtime, and decisions but for scores next to the threshold."""
    assert {name: values.dtype.name for name, values in found.items()} == OUTPUTS
    scale = np.maximum(1, np.abs(expected["score"]))
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=tolerance)
    np.testing.assert_array_less(np.abs(found["score"] - expected["score"]) / scale, tolerance)
    np.testing.assert_array_equal(found["label"], expected["label"])
    clear = np.abs(expected["score"] - threshold) / scale > tolerance
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(found["in_distribution"][clear], expected["in_distribution"][clear])
