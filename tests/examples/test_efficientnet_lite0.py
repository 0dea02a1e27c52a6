import os
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest

from kls.study import models

EXAMPLE = Path(__file__).parents[2] / "examples" / "efficientnet_lite0.py"
GOLDEN = os.environ.get("KLS_LITE0", "").removesuffix(".npz") + "_golden.npz"
BLOCKS = [  # (channels in, within, out; side of the kernels), as table 1 of the EfficientNet paper has them
    *[(32, 32, 16, 3)],
    *[(16, 96, 24, 3), (24, 144, 24, 3)],
    *[(24, 144, 40, 5), (40, 240, 40, 5)],
    *[(40, 240, 80, 3), (80, 480, 80, 3), (80, 480, 80, 3)],
    *[(80, 480, 112, 5), (112, 672, 112, 5), (112, 672, 112, 5)],
    *[(112, 672, 192, 5), (192, 1152, 192, 5), (192, 1152, 192, 5), (192, 1152, 192, 5)],
    *[(192, 1152, 320, 3)],
]


def find(name):
    return models.find(f"{EXAMPLE}:{name}")[1]


def state_dict():
    """Random arrays of the names and shapes that PyTorch's form of the network has."""
    rng = np.random.default_rng(0)
    convolutions = {"_conv_stem": (32, 3, 3, 3), "_conv_head": (1280, 320, 1, 1)}
    norms = {"_bn0": 32, "_bn1": 1280}
    for index, (before, within, after, side) in enumerate(BLOCKS):
        name = f"_blocks.{index}"
        if within != before:
            convolutions[f"{name}._expand_conv"] = (within, before, 1, 1)
            norms[f"{name}._bn0"] = within
        convolutions[f"{name}._depthwise_conv"] = (within, 1, side, side)
        convolutions[f"{name}._project_conv"] = (after, within, 1, 1)
        norms |= {f"{name}._bn1": within, f"{name}._bn2": after}
    arrays = {f"{name}.weight": rng.normal(size=shape) for name, shape in convolutions.items()}
    for name, width in norms.items():
        arrays |= {f"{name}.{part}": rng.normal(size=width) for part in ("weight", "bias", "running_mean")}
        arrays[f"{name}.running_var"] = rng.uniform(1, 2, width)
    arrays |= {"_fc.weight": rng.normal(size=(1000, 1280)), "_fc.bias": rng.normal(size=1000)}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def arrays():
    return state_dict()


@pytest.fixture(scope="module")
def weights(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "lite0.npz"
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture
def example(weights, monkeypatch):
    monkeypatch.setenv("KLS_LITE0", weights)
    return find


def test_parameters_are_those_of_the_published_network(arrays, example):
    model = find("imagenet_classifier").function()
    statistics = [array.size for name, array in arrays.items() if "running" in name]
    assert sum(array.size for array in arrays.values()) - sum(statistics) == 4_652_008
    assert model.count_params() - sum(statistics) == 4_652_008


def test_arrays_land_in_the_layers_of_their_names(arrays, example):
    model = example("build")((32, 32, 3), 7)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    for name, kernel in (("conv_stem", "_conv_stem"), ("blocks.9.project_conv", "_blocks.9._project_conv")):
        found = keras.ops.convert_to_numpy(model.get_layer(name).kernel)
        np.testing.assert_array_equal(found[0, 0, :, 5], arrays[f"{kernel}.weight"][5, :, 0, 0])
    depthwise = keras.ops.convert_to_numpy(model.get_layer("blocks.4.depthwise_conv").kernel)
    assert depthwise[1, 3, 100, 0] == arrays["_blocks.4._depthwise_conv.weight"][100, 0, 1, 3]
    norm = model.get_layer("blocks.15.bn0")
    for part, torch in (("gamma", "weight"), ("beta", "bias"), ("moving_mean", "running_mean")):
        np.testing.assert_array_equal(getattr(norm, part), arrays[f"_blocks.15._bn0.{torch}"])
    np.testing.assert_array_equal(norm.moving_variance, arrays["_blocks.15._bn0.running_var"])


def test_stem_is_that_of_numpy(arrays, example):
    model = example("build")((4, 4, 3), 2)
    image = np.random.default_rng(1).integers(0, 256, (4, 4, 3)).astype(np.float32)
    stem = keras.Model(model.input, model.get_layer("relu_stem").output)
    found = keras.ops.convert_to_numpy(stem(image[None]))[0, 0, 0]
    convolved = np.einsum("hwi,oihw->o", (image[:3, :3] - 127) / 128, arrays["_conv_stem.weight"].astype(np.float64))
    scale = arrays["_bn0.weight"] / np.sqrt(arrays["_bn0.running_var"] + 1e-3)
    expected = (convolved - arrays["_bn0.running_mean"]) * scale + arrays["_bn0.bias"]
    np.testing.assert_allclose(found, np.clip(expected, 0, 6), atol=1e-4)


def test_head_alone_depends_on_the_seed(example):
    def built(seed):
        keras.utils.set_random_seed(seed)
        return [keras.ops.convert_to_numpy(weight) for weight in example("lite0_96")((20, 24, 1), 3).weights]

    one, again, other = built(0), built(0), built(1)
    assert all(map(np.array_equal, one, again))
    differing = [index for index, pair in enumerate(zip(one, other, strict=True)) if not np.array_equal(*pair)]
    assert [one[index].shape for index in differing] == [(1280, 3)]


def test_grey_images_are_those_of_three_equal_channels(example):
    model = example("build")((32, 32, 1), 3)
    colours = keras.Model(model.input, model.get_layer("colours").output)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype(np.float32)
    np.testing.assert_array_equal(colours(images), images.repeat(3, axis=-1))


def test_training_leaves_the_batch_normalisation_as_it_is(arrays, example):
    model = example("build")((32, 32, 3), 3)
    model.get_layer("dropout").rate = 0.0
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(model(images, training=True), model(images, training=False), rtol=1e-4)
    assert len(model.trainable_weights) == sum("conv" in name for name in arrays) + 2
    before = keras.ops.convert_to_numpy(model.get_layer("blocks.2.bn0").moving_mean)
    model(images, training=True)
    np.testing.assert_array_equal(model.get_layer("blocks.2.bn0").moving_mean, before)


@pytest.mark.parametrize("side", [96, 128, 160, 224])
def test_sides_are_names_of_functions_that_pickle(example, side):
    own = pickle.loads(pickle.dumps(example(f"lite0_{side}")))
    assert own.function.__name__ == f"lite0_{side}"


def test_resized_images_are_those_of_bilinear_interpolation(example):
    model = example("lite0_96")((48, 24, 3), 3)
    resize = keras.Model(model.input, model.get_layer("resizing").output)
    ramp = np.broadcast_to(np.arange(24.0)[None, None, :, None], (1, 48, 24, 3))
    expected = np.clip((np.arange(96) + 0.5) * 24 / 96 - 0.5, 0, 23)  # centres of pixels
    found = keras.ops.convert_to_numpy(resize(ramp))
    np.testing.assert_allclose(found, np.broadcast_to(expected[None, None, :, None], (1, 96, 96, 3)), atol=1e-5)
    np.testing.assert_array_equal(model(ramp), model(ramp, training=False))


def test_study_sees_the_layers_features_and_preprocessing(example):
    described = models.describe_model(example("build"), (32, 32, 3), 4)
    assert (described.has_preprocessing, described.rates, described.drawn, described.ending) == (
        True,
        (0.2,),
        (),
        "logits",
    )


@pytest.mark.parametrize("path", [None, "absent.npz"])
def test_absent_weights_are_named(monkeypatch, path):
    monkeypatch.delenv("KLS_LITE0", raising=False)
    if path:
        monkeypatch.setenv("KLS_LITE0", path)
    with pytest.raises(ValueError, match=f"`KLS_LITE0` must be the path .* Received: KLS_LITE0={path!r}"):
        find("build")((32, 32, 3), 4)


@pytest.mark.skipif(not os.path.exists(GOLDEN), reason="KLS_LITE0 names no file beside which golden values lie")
def test_outputs_are_those_of_pytorch():
    golden = np.load(GOLDEN)
    model = find("imagenet_classifier").function()
    outputs = keras.Model(model.input, [model.output, model.get_layer("features").output])
    for found, name in zip(outputs(golden["images"].astype(np.float32)), ("logits", "features"), strict=True):
        np.testing.assert_allclose(found, golden[name], atol=1e-4)
