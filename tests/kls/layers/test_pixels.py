"""The layer that scales pixels and subtracts a mean: its values, its weight, and what it is saved as."""

import keras
import numpy as np
import pytest

from kls.layers import Pixels
from kls.models import build
from kls.utils.feature_extractor import Network

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 8, 8, 3), np.uint8)
MEAN = RNG.random((8, 8, 3), np.float32)


def network(mean=MEAN, nested=False):
    """Returns a network of scaled images, and one of pixels with the same layers."""
    inputs = keras.Input((8, 8, 3))
    inner = build("resnet8v1", (8, 8, 3), 4, classifier_activation=None)
    join = inner if nested else inner.call
    return inner, keras.Model(inputs, join(Pixels(mean)(inputs)))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_pixels_are_scaled_and_the_mean_subtracted(dtype):
    images = IMAGES.astype(dtype)
    for mean in (None, MEAN):
        found = Pixels(mean)(images)
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        np.testing.assert_allclose(found, IMAGES / 255 - (0 if mean is None else mean), atol=1e-7)


def test_values_known_by_hand():
    images = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(np.ravel(Pixels()(images)), [0, 0.2, 1], rtol=1e-7)
    np.testing.assert_allclose(np.ravel(Pixels(np.full((1, 3, 1), 0.5))(images)), [-0.5, -0.3, 0.5], rtol=1e-6)


def test_the_mean_is_a_weight_that_is_not_trained():
    layer = Pixels(MEAN)
    layer.build((None, 8, 8, 3))
    assert layer.trainable_weights == []
    (weight,) = layer.weights
    np.testing.assert_array_equal(weight, MEAN)
    scales = Pixels()
    scales.build((None, 8, 8, 3))
    assert scales.weights == []


def test_float32_under_mixed_precision(bfloat16):
    layer = Pixels(MEAN)
    for images in (IMAGES, keras.ops.convert_to_tensor(IMAGES.astype("float32"))):
        found = layer(images)
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        np.testing.assert_allclose(found, IMAGES / 255 - MEAN, atol=1e-7)
    inner, outer = network()
    assert inner.layers[1].compute_dtype == outer.layers[2].compute_dtype == "bfloat16"
    assert outer(IMAGES).shape == (5, 4)


def test_sides_may_be_unknown_without_a_mean_alone():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, Pixels()(inputs))
    assert model.output_shape == (None, None, None, 3)
    for side in (4, 6):
        np.testing.assert_allclose(model(IMAGES[:, :side]), IMAGES[:, :side] / 255, atol=1e-7)
    with pytest.raises(ValueError, match=r"Images must be of shape \(8, 8, 3\), that of `mean`\. .* \(None, None, 3\)"):
        Pixels(MEAN)(inputs)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.function is TensorFlow's")
def test_in_a_tf_function_of_any_batch_size():
    import tensorflow as tf

    layer = Pixels(MEAN)
    run = tf.function(layer, input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.uint8)])
    for count in (5, 2):
        np.testing.assert_allclose(run(IMAGES[:count]), IMAGES[:count] / 255 - MEAN, atol=1e-7)


@pytest.mark.parametrize("mean", [None, MEAN], ids=["scales", "mean"])
def test_configuration_holds_whether_there_is_a_mean(mean):
    layer = Pixels(mean, name="mine")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is Pixels
    assert again.get_config() == layer.get_config()
    assert again.get_config()["has_mean"] is (mean is not None)
    again.build((None, 8, 8, 3))
    assert [weight.shape for weight in again.weights] == ([] if mean is None else [(8, 8, 3)])


@pytest.mark.parametrize("nested", [False, True])
def test_a_network_takes_bytes_or_floats_and_is_saved_with_its_mean(nested, tmp_path):
    inner, outer = network(nested=nested)
    expected = np.asarray(outer.predict(IMAGES, verbose=0))
    np.testing.assert_array_equal(outer.predict(IMAGES.astype("float32"), verbose=0), expected)
    scaled = IMAGES / np.float32(255) - MEAN
    np.testing.assert_allclose(inner.predict(scaled, verbose=0), expected, rtol=1e-5, atol=1e-5)
    outer.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(again.predict(IMAGES, verbose=0), expected)
    outer.save_weights(tmp_path / "network.weights.h5")
    _, other = network(np.zeros_like(MEAN), nested)
    other.load_weights(tmp_path / "network.weights.h5")
    np.testing.assert_array_equal(other.predict(IMAGES, verbose=0), expected)


@pytest.mark.parametrize("nested", [False, True])
def test_logits_and_features_of_a_network_come_from_its_pixels(nested):
    inner, outer = network(nested=nested)
    outputs = Network(outer).outputs(IMAGES, features=True)
    np.testing.assert_allclose(outputs.logits, outer.predict(IMAGES, verbose=0), rtol=1e-5, atol=1e-5)
    kernel, bias = outputs.head
    np.testing.assert_allclose(outputs.features @ kernel + bias, outputs.logits, rtol=1e-4, atol=1e-5)
    scaled = IMAGES / np.float32(255) - MEAN
    (_, of_scaled), (_, of_pixels) = Network(inner).first_norm, Network(outer).first_norm
    np.testing.assert_allclose(of_pixels(IMAGES), of_scaled(scaled), rtol=1e-5, atol=1e-5)


def test_images_of_another_shape_than_the_mean_are_refused():
    with pytest.raises(ValueError, match=r"shape \(8, 8, 3\), that of `mean`\. Received: images of shape \(8, 8, 1\)"):
        Pixels(MEAN)(IMAGES[..., :1])
