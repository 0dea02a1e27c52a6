import keras
import numpy as np
import pytest
from keras import layers

import decathlon
import kls
from kls.layers import BatchNormalization
from kls.ood import Threshold
from kls.utils.feature_extractor import Network, first_batch_norm
from kls.utils.scale import FACTOR, Pixels, factor_of_training, scale_remark

CLASSES = 10
OTHER = "Images lie on another scale than what the network was trained on, by its first batch normalisation: "


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    dataset = decathlon.open("digits", data_dir=tmp_path_factory.mktemp("digits"))
    images, _ = dataset.split("train")
    return dataset, (images / 255).mean(axis=0).astype("float32")


@pytest.fixture(scope="module")
def raw(digits):
    images, labels = digits[0].split("validation")
    return images[:64].astype("float32"), labels[:64]


class Scaled(decathlon.Batches):
    """Batches of images in [0, 1] minus a mean, as networks without `kls.layers.Pixels` are trained on."""

    def batch(self, epoch, index):
        images, labels = super().batch(epoch, index)
        return images / np.float32(255) - self.mean, labels


def batches(digits, images, labels=None, **options):
    labels = np.zeros(len(images), int) if labels is None else labels
    found = Scaled(images, labels, CLASSES, 64, **options)
    found.mean = digits[1]
    return found


def trained(data, steps, momentum=0.99):
    """A small convolutional network after some training steps."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            BatchNormalization(momentum=momentum),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES),
        ]
    )
    model.compile("adam", kls.SmoothedCE(0.9, from_logits=True))
    for step in range(steps):
        model.train_on_batch(*data[step % len(data)])
    return model


@pytest.fixture(scope="module")
def model(digits):
    return trained(batches(digits, *digits[0].split("train"), training=True), 60, momentum=0.9)


@pytest.fixture(scope="module")
def network(model):
    return Network(model)


def ood_sets(images):
    """Data of the same scale that are not what the network was trained on, as bytes."""
    rng = np.random.default_rng(0)
    return {
        "noise": rng.integers(0, 256, images.shape, np.uint8),
        "inverted": 255 - images,
        "black": np.zeros_like(images),
        "white": np.full_like(images, 255),
        "constant": np.full(images.shape, rng.integers(0, 256, (len(images), 1, 1, 1)), np.uint8),
        "stripes": np.full(images.shape, np.array([[0], [255]] * 4), np.uint8),
    }


class TestOfTraining:
    @pytest.mark.parametrize("steps", [1, 5, 60])
    def test_right_and_ood_images_of_the_same_scale_are_near_1(self, digits, steps):
        images, labels = digits[0].split("train")
        network = Network(trained(batches(digits, images, labels, training=True), steps))
        for name, other in {"right": images[:64], **ood_sets(images[:64])}.items():
            factor = factor_of_training(network, batches(digits, other)[0][0])
            assert 2 / FACTOR < factor < FACTOR / 2, name

    @pytest.mark.parametrize("steps", [1, 5, 60])
    def test_of_a_network_trained_on_bytes(self, digits, steps):
        images, labels = (part[:640] for part in digits[0].split("train"))
        raw = [(images[i : i + 64].astype("float32"), labels[i : i + 64]) for i in range(0, 640, 64)]
        network = Network(trained(raw, steps))
        for name, other in {"right": images[:64], **ood_sets(images[:64])}.items():
            assert 2 / FACTOR < factor_of_training(network, other.astype("float32")) < FACTOR / 1.5, name
        small = factor_of_training(network, (images[:64] / 255).astype("float32"))
        assert small < 1 / FACTOR if steps == 60 else small <= 1

    @pytest.mark.parametrize("times", [60, 255, 1 / 2000])
    def test_is_about_the_factor_of_the_images(self, digits, network, times):
        right = batches(digits, digits[0].split("validation")[0])[0][0]
        assert 0.4 * times < factor_of_training(network, np.float32(times) * right) < 2 * times

    def test_raw_bytes_are_told_and_a_missing_mean_is_not(self, network, raw):
        assert scale_remark(network, {"`data`": raw[0]}).startswith(f"{OTHER}`data` about ")
        assert scale_remark(network, {"`data`": raw[0] / 255}) is None

    def test_nothing_is_known_of_a_network_that_was_not_trained(self, digits):
        images = 255 * np.random.default_rng(0).random((4, 8, 8, 1)).astype("float32")
        assert factor_of_training(Network(trained([], 0)), images) == 1
        plain = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3)])
        assert factor_of_training(Network(plain), images) == 1


class TestFirstBatchNorm:
    def test_of_a_nested_model_is_found(self, digits, model, network):
        x = keras.Input((8, 8, 1))
        nested = Network(keras.Model(x, layers.Dense(4)(model(x))))
        images = 255 * batches(digits, digits[0].split("validation")[0])[0][0]
        assert factor_of_training(nested, images) == pytest.approx(factor_of_training(network, images), rel=1e-5)

    def test_other_axes(self):
        norm = layers.BatchNormalization(axis=1)
        model = keras.Sequential([layers.Input((3, 5)), norm, layers.Flatten(), layers.Dense(2)])
        mean, deviation = np.array([3.0, -2.0, 1.0]), np.array([2.0, 1.0, 4.0])
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(deviation**2)
        noise = np.random.default_rng(0).normal(size=(200, 3, 5))
        images = (noise * deviation[:, None] + mean[:, None]).astype("float32")
        assert factor_of_training(Network(model), images) == pytest.approx(1, abs=0.1)
        assert factor_of_training(Network(model), 100 * images) == pytest.approx(100, rel=0.1)

    def test_there_is_none_without_a_graph_of_layers(self):
        class Own(keras.Model):
            def call(self, x):
                return x

        assert first_batch_norm(Own()) is None


class TestPixels:
    def test_by_hand(self):
        pixels = Pixels.of(np.array([[0, 255], [255, 2]], np.uint8))
        assert pixels == Pixels(0.0, 255.0, 128.0, pytest.approx(127.0, abs=0.01))
        assert (pixels.reach, Pixels(-3.0, 1.0, 0.0, 1.0).reach) == (255, 3)

    def test_the_factor_is_of_the_reach_unless_constant(self):
        bytes_, unit, black, white = (
            Pixels(low, high, 0.0, 0.0) for low, high in ((0, 255), (-1, 1), (0, 0), (255, 255))
        )
        assert (bytes_.factor(unit), unit.factor(bytes_)) == (255, 1 / 255)
        assert (black.factor(bytes_), bytes_.factor(black), black.factor(black)) == (1, 1, 1)
        assert white.factor(unit) == 255


class TestHonestUse:
    """The dataset of the training example, given right and given raw."""

    def test_raw_bytes_to_evaluate_are_told(self, model, raw):
        with pytest.warns(UserWarning, match=rf"^{OTHER}`data` about \d+ times larger, `ood` noise about") as caught:
            found = kls.evaluate(model, raw, {"noise": raw[0][::-1]})
        assert len([warning for warning in caught if "another scale" in str(warning.message)]) == 1
        assert OTHER in found.summary

    @pytest.mark.filterwarnings("error::UserWarning")
    def test_batches_to_evaluate_are_not(self, digits, model):
        images, labels = (part[:64] for part in digits[0].split("validation"))
        ood = {name: batches(digits, other) for name, other in ood_sets(images).items()}
        found = kls.evaluate(model, batches(digits, images, labels), ood, ["msp", "energy"])
        assert not any("scale" in remark for remark in found.remarks)

    def test_a_threshold_chosen_or_used_on_raw_bytes_is_told(self, digits, model, raw):
        with pytest.warns(UserWarning, match=f"{OTHER}`id_data` about"):
            Threshold("msp", model).fit(raw, tpr=0.95)
        threshold = Threshold("msp", model).fit(batches(digits, digits[0].split("validation")[0]), tpr=0.95)
        with pytest.warns(UserWarning, match=f"{OTHER}`x` about") as caught:
            threshold.predict(raw[0])
        assert caught[-1].filename == __file__
