import pickle
import sys

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils

from kls.study.backbones import Backbone, cached, default_side, is_backbone
from kls.study.plan import PlanError

SMALL = "keras.applications.MobileNetV3Small"
MODULES = {"MobileNetV2": "mobilenet_v2", "VGG16": "vgg16", "DenseNet121": "densenet", "MobileNetV3Small": None}


def images_of(shape, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.float32)


def outputs_of(model, x, **options):
    return keras.ops.convert_to_numpy(model(x, **options))


def head_of(model, maps):
    """Returns what the layers after the network make of its outputs, in NumPy."""
    kernel, bias = (keras.ops.convert_to_numpy(weight) for weight in model.get_layer("logits").weights)
    return maps.mean(axis=(1, 2)) @ kernel + bias


def network_of(model):
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def resized(images, height, width):
    """Resizes images by bilinear interpolation between the centres of pixels."""
    for axis, length in ((1, height), (2, width)):
        before = images.shape[axis]
        places = np.clip((np.arange(length) + 0.5) * before / length - 0.5, 0, before - 1)
        images = np.apply_along_axis(lambda line, at=places: np.interp(at, np.arange(len(line)), line), axis, images)
    return images.astype(np.float32)


@pytest.fixture
def untrained(monkeypatch):
    """Leaves networks with their random weights."""
    monkeypatch.setattr(file_utils, "get_file", lambda *args, **kwargs: "a file")
    monkeypatch.setattr(keras.Model, "load_weights", lambda model, path: None)


@pytest.fixture
def offline(monkeypatch):
    def get_file(*args, **kwargs):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(file_utils, "get_file", get_file)


@pytest.fixture(scope="module")
def small():
    return keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(32, 32, 3))


@pytest.fixture(scope="module")
def weights(small, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("weights") / "small.weights.h5")
    small.save_weights(path)
    return path


@pytest.mark.parametrize(
    ("name", "shape", "side"),
    [
        ("MobileNetV2", (48, 32, 3), 32),
        ("VGG16", (20, 30, 3), 32),
        ("DenseNet121", (32, 32, 1), 32),
        ("MobileNetV3Small", (32, 32, 3), None),
    ],
)
def test_outputs_are_those_of_keras_pieces(untrained, name, shape, side):
    model = Backbone(f"keras.applications.{name}", side=side, dropout=0.0)(shape, 5)
    images = images_of(shape)
    expected = images.repeat(3, axis=-1) if shape[-1] == 1 else images
    if min(shape[:2]) != (side or 224):
        expected = resized(expected, *(round(length * (side or 224) / min(shape[:2])) for length in shape[:2]))
    if MODULES[name]:
        expected = getattr(keras.applications, MODULES[name]).preprocess_input(expected.copy())
    expected = head_of(model, outputs_of(network_of(model), expected, training=False))
    np.testing.assert_allclose(outputs_of(model, images), expected, rtol=1e-3, atol=1e-5)


def test_saved_model_is_loaded_as_it_was(untrained, tmp_path):
    model = Backbone("keras.applications.VGG16", side=32)((24, 24, 1), 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    images = images_of((24, 24, 1))
    np.testing.assert_array_equal(outputs_of(loaded, images), outputs_of(model, images, training=False))


def test_weights_are_those_of_a_file(small, weights, tmp_path):
    legacy = tmp_path / "small_notop.h5"
    with h5py.File(legacy, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, small)
    images = images_of((32, 32, 3))
    maps = outputs_of(small, images)
    for path in (weights, str(legacy)):
        model = Backbone(SMALL, weights=path, side=32, dropout=0.0)((32, 32, 3), 4)
        for training in (False, True):  # batch normalisation is frozen
            found = outputs_of(model, images, training=training)
            np.testing.assert_allclose(found, head_of(model, maps), rtol=1e-4, atol=1e-6)


def test_efficient_net_of_a_file_is_that_of_pretrained_ones(untrained, weights):
    model = Backbone("keras.applications.EfficientNetB0", weights=weights, side=32)((32, 32, 3), 2)
    scales = [layer.scale for layer in network_of(model).layers if isinstance(layer, keras.layers.Rescaling)]
    np.testing.assert_allclose(scales[1], np.array([0.229, 0.224, 0.225]) ** -0.5)


def test_weights_that_cannot_be_downloaded_are_named(offline):
    with pytest.raises(PlanError, match=r"^resnet50v2_weights.*_notop.h5.* give a file of them as `weights`"):
        Backbone("keras.applications.ResNet50V2", side=32)((32, 32, 3), 2)


@pytest.mark.parametrize("kind", ["absent", "other network", "no weights", "other ending"])
def test_files_that_do_not_fit_are_refused(kind, weights, tmp_path):
    path = {"no weights": "w.weights.h5", "other ending": "w.txt"}.get(kind, "absent.h5")
    path = weights if kind == "other network" else tmp_path / path
    if kind in ("no weights", "other ending"):
        path.write_text("none")
    with pytest.raises(PlanError, match=r"^`weights` must be a file of the weights of .*MobileNet without its top"):
        Backbone("keras.applications.MobileNet", weights=str(path), side=32)((32, 32, 3), 2)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("keras.applications.EficientNetV2B0", "EfficientNetV2B0"),
        ("keras.applications.mobilenetv2", "MobileNetV2"),
        ("keras.applications.imagenet_utils", "MobileNet"),
    ],
)
def test_wrong_names_are_told_from_close_ones(name, close):
    with pytest.raises(PlanError, match=f"such as .*{close}.* Received: '{name}'"):
        Backbone(name)
    with pytest.raises(PlanError, match=close):
        default_side(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "resnet18v1"},
            "`model` must be keras.applications.NAME or keras_hub:PRESET. Received: model='resnet",
        ),
        ({"side": 74}, "InceptionV3: `side` must be a whole number of at least 75. Received: side=74"),
        ({"side": 80.0}, "`side` must be a whole number"),
        ({"dropout": 1}, "`dropout` must be a number in"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        Backbone(**{"name": "keras.applications.InceptionV3", **options})


@pytest.mark.parametrize("shape", [(32, 32, 4), (32, 32), (7,)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(PlanError, match=r"takes images of shape \(H, W, 1\) or \(H, W, 3\). Received: input_shape="):
        Backbone(SMALL)(shape, 2)


def test_sides_are_those_of_keras_documentation():
    published = {
        **{"EfficientNetB1": 240, "EfficientNetB7": 600, "EfficientNetV2S": 384, "InceptionV3": 299, "Xception": 299},
        **{"NASNetLarge": 331, "NASNetMobile": 224, "MobileNetV3Small": 224, "ConvNeXtTiny": 224, "ResNet50": 224},
    }
    assert {name: default_side(f"keras.applications.{name}") for name in published} == published


def test_is_picklable():
    backbone = Backbone(SMALL, side=64, dropout=0.1)
    assert pickle.loads(pickle.dumps(backbone)) == backbone


@pytest.mark.parametrize(
    ("name", "answer"),
    [(SMALL, True), ("keras.applications.Foo", True), ("keras_hub:x", True), ("kls:x", False), (None, False)],
)
def test_names_of_backbones_are_told_by_their_form(name, answer):
    assert is_backbone(name) is answer


def test_cache_is_asked_for_the_file_of_a_side(monkeypatch, tmp_path):
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    name = "keras.applications.MobileNet"
    (tmp_path / "models").mkdir()
    assert not cached(name, side=128)
    (tmp_path / "models" / "mobilenet_1_0_128_tf_no_top.h5").touch()
    assert cached(name, side=128)
    assert not cached(name)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A folder of a small network of KerasHub and its image converter, and the network."""
    keras_hub = pytest.importorskip("keras_hub")
    network = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
    )
    path = str(tmp_path_factory.mktemp("preset"))
    network.save_to_preset(path)
    keras_hub.layers.ResNetImageConverter((24, 28), scale=[0.1, 0.2, 0.3], offset=[1, 2, 3]).save_to_preset(path)
    return path, network


def test_preset_of_keras_hub_is_scaled_as_its_converter_says(preset, tmp_path):
    path, network = preset
    model = Backbone(f"keras_hub:{path}")((12, 18, 1), 3)
    images = images_of((12, 18, 1))
    expected = resized(images.repeat(3, axis=-1), 24, 36) * np.float32([0.1, 0.2, 0.3]) + np.float32([1, 2, 3])
    expected = head_of(model, outputs_of(network, expected, training=False))
    np.testing.assert_allclose(outputs_of(model, images), expected, rtol=1e-3, atol=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(outputs_of(loaded, images), outputs_of(model, images))
    assert (default_side(f"keras_hub:{path}"), cached(f"keras_hub:{path}")) == (24, True)


def test_preset_takes_weights_of_a_file(preset, tmp_path):
    path, network = preset
    other = keras.models.clone_model(network)
    other.save_weights(tmp_path / "other.weights.h5")
    model = Backbone(f"keras_hub:{path}", weights=str(tmp_path / "other.weights.h5"))((24, 24, 3), 3)
    for found, expected in zip(network_of(model).weights, other.weights, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_presets_that_there_are_not_are_refused(preset, tmp_path):
    with pytest.raises(PlanError, match=r"preset of KerasHub .* Received: 'keras_hub:none_en' \(Unknown preset"):
        Backbone("keras_hub:none_en")((24, 24, 3), 3)
    assert not cached("keras_hub:none_en")


def test_keras_hub_is_asked_for_where_it_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(
        PlanError, match=r"`name` needs the package keras-hub, which is not installed. Received: 'keras"
    ):
        Backbone("keras_hub:resnet_18_imagenet")((24, 24, 3), 3)
