"""Guards of classifiers that end otherwise than in a `Dense` of several outputs."""

import importlib.util

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import softmax

import kls
from kls.ood import scores

from .helpers import assert_close, predicted
from .test_export import BACKEND, FORMATS, RUNTIMES

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(60, 4, 4, 2)).astype("float32")
LABELS = np.arange(60) % 2


def network(*last):
    keras.utils.set_random_seed(0)
    return keras.Sequential([layers.Input((4, 4, 2)), layers.Conv2D(5, 2, activation="relu", name="first"), *last])


HEADS = {
    "sigmoid": lambda: network(layers.Flatten(), layers.Dense(1, activation="sigmoid")),
    "logit": lambda: network(layers.Flatten(), layers.Dense(1)),
    "pooling": lambda: network(layers.Conv2D(3, 1), layers.GlobalAveragePooling2D(), layers.Softmax()),
}


def expected_logits(model):
    outputs = keras.ops.convert_to_numpy(model(IMAGES))
    if outputs.shape[1] > 1:
        return np.log(outputs)
    is_linear = model.layers[-1].activation is keras.activations.linear
    z = outputs if is_linear else np.log(outputs / (1 - outputs))
    return np.hstack([0 * z, z])


@pytest.mark.parametrize(
    ("head", "score"), [("sigmoid", "energy"), ("sigmoid", "knn"), ("logit", "vim"), ("pooling", "knn")]
)
def test_outputs_are_those_of_all_classes_also_when_loaded(head, score, tmp_path):
    model = HEADS[head]()
    guarded = kls.guard(model, (IMAGES, LABELS), scaling=None, score=score, training_data=(IMAGES, LABELS))
    found = predicted(guarded, IMAGES)
    logits = expected_logits(model)
    np.testing.assert_allclose(found["probabilities"], softmax(logits, axis=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["label"], logits.argmax(axis=1))
    if score == "energy":
        np.testing.assert_allclose(found["score"], np.log(np.exp(logits).sum(axis=1)), rtol=1e-4, atol=1e-5)
    library = scores.get(score).fit(model, (IMAGES, LABELS))(model, IMAGES)
    np.testing.assert_allclose(found["score"], library, rtol=1e-4, atol=1e-4)
    guarded.save(tmp_path / "a.keras")
    again = keras.models.load_model(tmp_path / "a.keras")
    assert_close(predicted(again, IMAGES), found, guarded.report.threshold)


@keras.saving.register_keras_serializable(package="tests of heads")
class One(keras.Model):
    def call(self, x):
        return keras.ops.sigmoid(keras.ops.sum(x, axis=(1, 2, 3))[:, None])


def test_a_subclass_of_one_probability(tmp_path):
    guarded = kls.guard(One(), (IMAGES, LABELS), scaling=None, score="msp")
    found = predicted(guarded, IMAGES)
    p = 1 / (1 + np.exp(-IMAGES.sum(axis=(1, 2, 3))))
    np.testing.assert_allclose(found["probabilities"][:, 1], p, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["score"], np.maximum(p, 1 - p), rtol=1e-4)
    guarded.save(tmp_path / "a.keras")
    assert_close(predicted(keras.models.load_model(tmp_path / "a.keras"), IMAGES), found, guarded.report.threshold)


def test_features_are_named_where_the_last_layer_is_not_found():
    model = network(layers.Conv2D(3, 1, activation="relu"), layers.GlobalAveragePooling2D())
    data = IMAGES, LABELS
    with pytest.raises(ValueError, match=r'^KNN needs features: name the layer .* `KNN\(features="NAME"\)`[^.]*\.$'):
        kls.guard(model, data, score="knn", training_data=data)
    score = scores.KNN(k=3, features="first")
    found = predicted(kls.guard(model, data, score=score, training_data=data), IMAGES)["score"]
    expected = scores.KNN(k=3, features="first").fit(model, data)(model, IMAGES)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="written from TensorFlow")
@pytest.mark.parametrize(
    ("head", "format"), [("sigmoid", "tf_saved_model"), ("sigmoid", "onnx"), ("pooling", "litert")]
)
def test_another_runtime_gives_the_same(head, format, tmp_path):
    for needed in RUNTIMES[format]:
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    guarded = kls.guard(HEADS[head](), (IMAGES, LABELS), score="vim", training_data=(IMAGES, LABELS))
    file, run = FORMATS[format]
    guarded.export(tmp_path / file, format=format, verbose=False)
    assert_close(run(tmp_path / file, IMAGES), predicted(guarded, IMAGES), guarded.report.threshold)
