import keras
import numpy as np
import pytest

from kls.models import DenoisingClassifier, ResNetV1, classifier_of


def images(shape, count=2):
    return np.random.default_rng(0).normal(size=(count, *shape)).astype("float32")


def trainable_count(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


@pytest.fixture(scope="module")
def denoising_classifier():
    return DenoisingClassifier((28, 28, 1), classes=9)


def test_ten_convolutions_are_shared(denoising_classifier):
    model = denoising_classifier

    def convolutions(output):
        return {layer.name for layer in keras.Model(model.inputs, output).layers if is_convolution(layer)}

    def is_convolution(layer):
        return isinstance(layer, keras.layers.Conv2D)

    of_class, of_image = convolutions(model.output["class"]), convolutions(model.output["image"])
    assert len(of_class & of_image) == 10
    assert len(of_class) == 15  # ResNet-18 without its last stage: 1 + 4 + 5 + 5
    assert len(of_image) == 14


def test_parameters_by_hand(denoising_classifier):
    # convolutions and normalisations: stem; two blocks of 32; of 64 and 128 with a shortcut; 128 x 9 + 9
    def stage(before, after):
        shortcut = before * after + 2 * after if before != after else 0
        return 9 * before * after + 3 * 9 * after**2 + 4 * 2 * after + shortcut

    shared = 9 * 32 + 2 * 32 + stage(32, 32) + stage(32, 64)
    classifier = stage(64, 128) + 128 * 9 + 9
    decoder = 9 * 64 * 128 + 256 + 9 * 128 * 64 + 128 + 9 * 64 * 32 + 64 + 9 * 32 + 1
    assert trainable_count(denoising_classifier) == shared + classifier + decoder
    assert trainable_count(classifier_of(denoising_classifier)) == shared + classifier


@pytest.mark.parametrize("shape", [(8, 8, 1), (12, 16, 3)])
def test_gives_a_distribution_and_an_image_of_the_same_shape(shape):
    found = DenoisingClassifier(shape, classes=4)(images(shape, 3))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found["class"]).sum(axis=1), 1, atol=1e-6)
    assert tuple(found["image"].shape) == (3, *shape)


def test_both_outputs_stay_float32(bfloat16):
    found = DenoisingClassifier((8, 8, 1), classes=4).output
    assert {name: output.dtype for name, output in found.items()} == {"class": "float32", "image": "float32"}


def test_the_classifier_is_the_same_network(denoising_classifier):
    x = images((28, 28, 1))
    classifier = classifier_of(denoising_classifier)
    np.testing.assert_array_equal(classifier(x), denoising_classifier(x)["class"])
    assert classifier.weights[0] is denoising_classifier.weights[0]


def test_a_network_of_one_output_is_its_own_classifier():
    model = ResNetV1(8, (8, 8, 1), 4)
    assert classifier_of(model) is model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (30, 28, 1)}, "sides that 4 divides.*30, 28"),
        ({"input_shape": (28, 28, 2)}, "1 or 3 channels"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        DenoisingClassifier(**arguments)


def test_survives_saving(tmp_path):
    model = DenoisingClassifier((8, 8, 1), classes=4)
    model.save(tmp_path / "model.keras")
    x = images((8, 8, 1))
    found, expected = keras.saving.load_model(tmp_path / "model.keras")(x), model(x)
    for name in ("class", "image"):
        np.testing.assert_array_equal(found[name], expected[name])
