import re

import keras
import numpy as np
import pytest
from keras import layers

from kls.ood import scores
from kls.ood.scores import (
    MSP,
    ODIN,
    SCORES,
    Reconstruction,
)
from kls.study.train import mirrored_strategy
from kls.utils.feature_extractor import Network, Outputs

from .given import IMAGES, LOGITS, MODELS, TENSORFLOW, deep_logits, opaque_probabilities, softmax


def perturbed(images, temperature, epsilon):
    """Returns images after ODIN's step, by finite differences in NumPy."""

    def log_confidence(images):
        return np.log(softmax(deep_logits(images) / temperature).max(axis=1))

    images = images.astype(float)
    steps = 1e-5 * np.eye(6)
    gradient = np.stack([log_confidence(images + step) - log_confidence(images - step) for step in steps], axis=1)
    assert np.abs(gradient).min() > 1e-6 * np.abs(gradient).max()  # no sign is a matter of rounding
    return images + epsilon * np.sign(gradient)


class TestODIN:
    @pytest.mark.parametrize("temperature", [1.0, 10.0, 1000.0])
    def test_follows_the_finite_difference_gradient(self, deep_network, temperature):
        for epsilon in (0.01, 0.5):
            expected = softmax(deep_logits(perturbed(IMAGES, temperature, epsilon)) / temperature).max(axis=1)
            np.testing.assert_allclose(ODIN(temperature, epsilon)(deep_network, IMAGES), expected, rtol=3e-6)

    @pytest.mark.parametrize("temperature", [1.0, 1000.0])
    def test_the_perturbed_logits_are_those_of_the_moved_images(self, deep_network, temperature):
        odin = ODIN(temperature, 0.05)
        found = odin.perturbed_logits(deep_network, IMAGES)
        assert (type(found), found.dtype, found.shape) == (np.ndarray, np.float32, (len(IMAGES), 5))
        expected = deep_logits(perturbed(IMAGES, temperature, 0.05))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert np.abs(expected - deep_logits()).max() > 0.01
        np.testing.assert_allclose(odin.of_outputs(Outputs(found)), odin(deep_network, IMAGES), rtol=1e-12)

    def test_the_perturbed_logits_of_probabilities_are_their_logarithms(self, opaque_network):
        opaque_network.outputs(IMAGES)  # shows that they are probabilities
        found = ODIN(10.0, 0.05).perturbed_logits(opaque_network, IMAGES)
        expected = np.log(softmax(deep_logits(perturbed(IMAGES, 10.0, 0.05))))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("temperature", [1.0, 1000.0])
    def test_without_a_step_is_the_maximum_softmax_at_that_temperature(self, deep_network, temperature):
        found = ODIN(temperature, epsilon=0)(deep_network, IMAGES)
        np.testing.assert_allclose(found, MSP()(deep_logits() / temperature), rtol=1e-6)

    @pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
    def test_does_not_depend_on_the_batch(self, deep_network, batch_size):
        found = ODIN(10, 0.05)(deep_network, IMAGES, batch_size=batch_size)
        np.testing.assert_allclose(found, ODIN(10, 0.05)(deep_network, IMAGES), rtol=1e-6)
        backwards = ODIN(10, 0.05)(deep_network, IMAGES[::-1], batch_size=batch_size)
        np.testing.assert_allclose(backwards[::-1], found, rtol=1e-6)

    @pytest.mark.parametrize("name", ["softmax", "nested softmax", "opaque", "opaque probabilities"])
    def test_of_every_kind_of_model(self, deep_network, name):
        model = {**MODELS, "opaque probabilities": opaque_probabilities}[name]()
        np.testing.assert_allclose(ODIN(10, 0.05)(model, IMAGES), ODIN(10, 0.05)(deep_network, IMAGES), rtol=1e-5)

    def test_settings_do_not_share_what_is_compiled(self, deep_network):
        found = [ODIN(t, e)(deep_network, IMAGES) for t, e in ((1.0, 0.0), (1.0, 0.1), (2.0, 0.1), (1.0, 0.0))]
        assert not np.allclose(found[0], found[1])
        assert not np.allclose(found[1], found[2])
        np.testing.assert_array_equal(found[0], found[3])

    def test_changes_no_state(self):
        model = keras.Sequential(
            [layers.Input((6,)), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(5)]
        )
        model(IMAGES * 3, training=True)
        before = [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in model.variables]
        network = Network(model)
        np.testing.assert_array_equal(ODIN(1.0, 0.1)(network, IMAGES), ODIN(1.0, 0.1)(network, IMAGES))
        for one, variable in zip(before, model.variables, strict=True):
            np.testing.assert_array_equal(one, keras.ops.convert_to_numpy(variable.value))

    def test_the_step_is_in_units_of_the_images(self, deep, deep_network):
        # one byte is a 255th after rescaling: the same step in both units
        images = (IMAGES * 255).round().astype("uint8")
        rescaling = keras.Sequential([layers.Input((6,)), layers.Rescaling(1 / 255), deep])
        found = ODIN(10, epsilon=12.75)(rescaling, images)
        np.testing.assert_allclose(found, ODIN(10, epsilon=0.05)(deep_network, images / 255), rtol=1e-5)

    def test_a_model_that_takes_whole_numbers_alone_has_no_gradient(self, deep):
        images = (IMAGES * 255).round().astype("uint8")
        model = keras.Sequential([layers.Input((6,), dtype="uint8"), layers.Rescaling(1 / 255), deep])
        with pytest.raises(ValueError, match="ODIN needs"):
            ODIN(10, epsilon=12.75)(model, images)

    @pytest.mark.skipif(not TENSORFLOW, reason="tf.distribute")
    def test_of_a_model_of_two_replicas(self, deep_network):
        with mirrored_strategy().scope():
            model = MODELS["softmax"]()
        found = ODIN(10, 0.05)(model, IMAGES, batch_size=8)
        np.testing.assert_allclose(found, ODIN(10, 0.05)(deep_network, IMAGES), rtol=1e-5)

    @pytest.mark.usefixtures("bfloat16")
    def test_in_mixed_precision(self):
        found = ODIN(1.0, 0.0)(MODELS["linear"](), IMAGES)
        np.testing.assert_allclose(found, MSP()(deep_logits()), rtol=0.05)


SQUARES = np.random.default_rng(7).random((5, 4, 4, 1)).astype("float32")


def autoencoder(shift=0.25, activation=None):
    """Returns 4x4 images through an identity, all pixels shifted: the error is the square of the shift."""
    last = layers.Dense(16, activation=activation, name="last")
    model = keras.Sequential([layers.Input((4, 4, 1)), layers.Flatten(), last, layers.Reshape((4, 4, 1))])
    model.set_weights([np.eye(16), np.full(16, shift)])
    return model


def two_outputs(named=True):
    inputs, image = layers.Input((4, 4, 1)), autoencoder(0.5)
    outputs = {"class": layers.Dense(3, name="logits")(layers.Flatten()(inputs)), "image": image(inputs)}
    return keras.Model(inputs, outputs if named else list(outputs.values())), image.name


@pytest.fixture(scope="module")
def network():
    """What compiles the autoencoder once for several tests."""
    return Reconstruction().network_of(autoencoder())


class TestReconstruction:
    def test_is_minus_the_mean_squared_error_of_each_image(self):
        images = np.zeros((3, 4, 4, 1), "float32")
        images[0, 0, 0], images[1] = 4.0, 0.5
        model = autoencoder()
        model.set_weights([np.zeros((16, 16)), np.full(16, 0.5)])  # every image becomes 0.5
        found = Reconstruction()(model, images)
        np.testing.assert_array_equal(found, [-(3.5**2 + 15 * 0.25) / 16, 0, -0.25])
        assert (found.dtype, found.shape) == (np.float64, (3,))

    @pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
    def test_does_not_depend_on_the_batch(self, network, batch_size):
        images = SQUARES * np.float32(1e3)  # their rounding by float32 tells them apart
        found = Reconstruction()(network, images, batch_size)
        np.testing.assert_allclose(found, -(0.25**2), rtol=1e-3)
        np.testing.assert_allclose(found, Reconstruction()(network, images), rtol=1e-12)
        np.testing.assert_allclose(Reconstruction()(network, images[::-1], batch_size)[::-1], found, rtol=1e-12)

    @pytest.mark.skipif(not TENSORFLOW, reason="counts TensorFlow's traces")
    def test_a_partial_batch_is_not_traced_again(self):
        traced = []

        class Counted(keras.Model):
            def call(self, x):
                traced.append(x.shape)
                return x + 0.5

        score = Reconstruction()
        network = score.network_of(Counted())
        np.testing.assert_allclose(score(network, SQUARES, batch_size=2), -0.25, rtol=1e-5)
        np.testing.assert_allclose(score(network, (SQUARES, np.arange(5)), batch_size=2), -0.25, rtol=1e-5)
        assert [tuple(shape) for shape in traced] == [(2, 4, 4, 1)]

    def test_of_a_named_output(self):
        model, _ = two_outputs()
        np.testing.assert_allclose(Reconstruction()(model, SQUARES), -0.25, rtol=1e-5)
        longer = keras.Sequential([layers.Input((4, 4, 1)), layers.Rescaling(1.0), model])
        np.testing.assert_allclose(Reconstruction()(longer, SQUARES), -0.25, rtol=1e-5)

    def test_of_a_list_of_outputs_by_the_name_of_the_layer(self):
        model, name = two_outputs(named=False)
        np.testing.assert_allclose(Reconstruction(output=name)(model, SQUARES), -0.25, rtol=1e-5)

    def test_a_single_output_is_taken_whatever_its_name(self, network):
        np.testing.assert_array_equal(
            Reconstruction(output="other")(network, SQUARES), Reconstruction()(network, SQUARES)
        )
        inputs = layers.Input((4, 4, 1))
        model = keras.Model(inputs, {"picture": layers.Rescaling(2.0)(inputs)})
        np.testing.assert_allclose(
            Reconstruction()(model, SQUARES), -(SQUARES.astype(float) ** 2).mean(axis=(1, 2, 3)), rtol=1e-6
        )

    def test_of_an_autoencoder_that_ends_in_a_sigmoid(self):
        model = keras.Sequential([layers.Input((16,)), layers.Dense(16, activation="sigmoid")])
        model.set_weights([np.zeros((16, 16)), np.zeros(16)])
        found = Reconstruction()(model, SQUARES.reshape(5, 16))
        np.testing.assert_allclose(found, -((SQUARES.astype(float) - 0.5) ** 2).mean(axis=(1, 2, 3)), rtol=1e-6)

    def test_of_a_model_whose_call_is_its_own(self):
        class Doubled(keras.Model):
            def call(self, inputs, training=None):
                return 2 * super().call(inputs, training=training)

        inputs = layers.Input((4, 4, 1))
        model = Doubled(inputs, layers.Rescaling(0.75)(inputs))
        found = Reconstruction()(model, np.ones((2, 4, 4, 1), "float32"))
        np.testing.assert_allclose(found, -0.25, rtol=1e-6)

    def test_of_bytes(self):
        images = np.full((2, 4, 4, 1), 250, "uint8")
        inputs = layers.Input((4, 4, 1), dtype="uint8")
        model = keras.Model(inputs, layers.Rescaling(1.0, 16.0)(inputs))  # 266 is beyond a byte
        np.testing.assert_array_equal(Reconstruction()(model, images), -256)

    @pytest.mark.usefixtures("bfloat16")
    def test_the_error_of_a_network_in_mixed_precision_is_not_rounded(self):
        # 0.7 becomes 0.69921875 in bfloat16; the square of the difference is far below its steps near 0.7
        found = Reconstruction()(autoencoder(0.0), np.full((2, 4, 4, 1), 0.7, "float32"))
        np.testing.assert_allclose(found, -((np.float64(np.float32(0.7)) - 0.69921875) ** 2), rtol=1e-9)

    def test_is_none_of_the_names(self):
        assert "Reconstruction" not in {type(scores.get(name)).__name__ for name in SCORES}
        score = Reconstruction(output="picture")
        assert scores.get(score) is score
        assert repr(score) == "Reconstruction(output='picture')"
        assert score.fit(None, None) is score

    @pytest.mark.parametrize(("named", "names"), [(True, "class, image"), (False, "logits, sequential.*")])
    def test_a_name_that_is_no_output(self, named, names):
        model, _ = two_outputs(named)
        with pytest.raises(ValueError, match=rf"`output` must name an output.*{names}\. Received: output='imgae'"):
            Reconstruction("imgae")(model, SQUARES)

    def test_an_output_of_another_shape(self):
        model, _ = two_outputs()
        with pytest.raises(ValueError, match=r"their own shape\..*\(5, 4, 4, 1\).*\(5, 3\)"):
            Reconstruction("class")(model, SQUARES)

    @pytest.mark.parametrize("images", [SQUARES[:, :3], SQUARES[..., 0]])
    def test_images_of_another_shape(self, network, images):
        Reconstruction()(network, SQUARES)  # compiled or not
        received = re.escape(f"(None, 4, 4, 1). Received: shape {images.shape}")
        with pytest.raises(ValueError, match=rf"`x` must hold images of shape {received}"):
            Reconstruction()(network, images)

    def test_logits_or_nothing_for_a_model(self):
        with pytest.raises(ValueError, match="Reconstruction needs a model and images, not logits alone"):
            Reconstruction()(LOGITS)
        with pytest.raises(ValueError, match=r"must be a Keras model\. Received: <ndarray of dtype"):
            Reconstruction()(LOGITS, SQUARES)
        with pytest.raises(ValueError, match=r"needs images to go with the model"):
            Reconstruction()(autoencoder())

    def test_an_image_that_holds_nan(self, network):
        images = SQUARES.copy()
        images[3, 0, 0, 0] = np.nan
        with pytest.raises(ValueError, match=r"Reconstruction has no score for these images.*sample 3"):
            Reconstruction()(network, images)
