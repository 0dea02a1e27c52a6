import re
from functools import cache, partial

import keras
import numpy as np
import pytest

import kls
from kls.models import (
    DLA,
    DenseNet,
    DenseNetBC,
    ResNet,
    ResNetV1,
    ResNetV2,
    ResNeXt,
    WideResNet,
    build,
)

# a small one of each family, but of those that are slow to build: DenseNetBC and DLA, which are made of the same layers
SMALL = {
    "resnet8v1": partial(ResNetV1, 8),
    "resnet11v2": partial(ResNetV2, 11),
    "wrn10-1": partial(WideResNet, 10, 1, dropout=0.0),
    "densenet10-12": partial(DenseNet, 10, 12),
    "resnet18": partial(ResNet, 18),
    "resnext11-2x4d": partial(ResNeXt, 11, 2, 4),
}
every_family = pytest.mark.parametrize("network", SMALL.values(), ids=SMALL)


def batch(shape, classes=4, n=8):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, *shape)).astype("float32"), np.arange(n) % classes


def squares(weights):
    return sum(float(np.sum(np.square(np.asarray(weight, "float64")))) for weight in weights)


def trainable_count(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


@pytest.fixture(scope="module")
def of_ten_classes():
    """Returns a function that builds a registered network once for all tests."""
    return cache(lambda name: build(name, (32, 32, 3), 10))


def longest_path(model):
    """The number of convolutions and linear layers on the longest path from the input to the output."""
    lengths = {}
    for layer in model.layers:
        sources = [] if isinstance(layer, keras.layers.InputLayer) else keras.tree.flatten(layer.input)
        before = max((lengths[source._keras_history.operation] for source in sources), default=0)
        lengths[layer] = before + isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
    return lengths[model.layers[-1]]


class TestParameterCounts:
    def test_resnet20v1_is_the_papers(self):
        assert ResNetV1(20).count_params() == 274_442

    def test_resnet83v2_is_the_papers(self):
        assert ResNetV2(83).count_params() == 2_498_474

    def test_wide_resnet_by_hand(self):
        # stem 432; stages of six blocks: 3x3 convolutions, two normalisations each, one 1x1 shortcut; 128 x 10 + 10
        def stage(before, after):
            convolutions = 9 * before * after + 11 * 9 * after**2 + before * after
            normalisations = 2 * before + 11 * 2 * after
            return convolutions + normalisations

        expected = 432 + stage(16, 32) + stage(32, 64) + stage(64, 128) + 2 * 128 + 1290
        assert trainable_count(WideResNet(40, 2)) == expected == 2_243_546  # 2.2 M in Lee & Cheon 2020

    def test_densenet_by_hand(self):
        # a layer on c channels: 3x3 to 12 channels and a normalisation; twelve layers begin at c, c + 12, ..., c + 132
        def block(before):
            return (9 * 12 + 2) * (12 * before + 12 * 66)

        def transition(channels):
            return channels**2 + 2 * channels

        blocks = block(24) + transition(168) + block(168) + transition(312) + block(312)
        expected = 3 * 9 * 24 + blocks + 2 * 456 + 457 * 10  # 1.1 M in Lee & Cheon 2020
        model = DenseNet(40, 12)
        assert trainable_count(model) == expected == 1_059_298
        scales = sum(w.shape[0] for w in model.trainable_weights if w.name == "gamma")
        assert model.count_params() == expected + 2 * scales

    def test_resnet200_by_hand(self, of_ten_classes):
        # bottlenecks: 1x1, 3x3 and 1x1 convolution, three normalisations; the first of a stage has a shortcut with one
        def stage(before, width, count):
            first = before * width + 9 * width**2 + 4 * width**2 + 4 * before * width + 2 * (1 + 1 + 4 + 4) * width
            other = 4 * width**2 + 9 * width**2 + 4 * width**2 + 2 * (1 + 1 + 4) * width
            return first + (count - 1) * other

        stages = stage(64, 64, 3) + stage(256, 128, 24) + stage(512, 256, 36) + stage(1024, 512, 3)
        expected = 27 * 64 + 2 * 64 + stages + 2048 * 10 + 10
        assert trainable_count(of_ten_classes("resnet200")) == expected

    # the networks of kuangliu/pytorch-cifar
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("resnet18", 11_173_962),
            ("resnet50", 23_520_842),
            ("resnext29-4x64d", 27_104_586),
            ("densenet121", 6_956_298),
            ("dla34", 16_291_386),
        ],
    )
    def test_as_those_of_the_same_name_in_torch(self, of_ten_classes, name, expected):
        assert trainable_count(of_ten_classes(name)) == expected

    # The paper prints 11.18, 23.51, 62.62 and 6.95 M of networks without a classifier, and those of He et al. 2015,
    # table 6, with 10 classes: `excess` is what 100 classes have beyond the printed number, in percent.
    @pytest.mark.parametrize(
        ("name", "printed", "excess"),
        [
            ("resnet20v1", "0.27", 3.3),
            ("resnet56v1", "0.85", 1.6),
            ("resnet110v1", "1.7", 2.4),
            ("resnet18", "11.18", 0.4),
            ("resnet50", "23.51", 0.8),
            ("resnet200", "62.62", 0.3),
            ("resnext29-4x64d", "27.1", 0.7),
            ("densenet121", "6.95", 1.4),
            ("dla34", "16.29", 0.3),
        ],
    )
    def test_are_those_that_the_label_distribution_paper_prints(self, of_ten_classes, name, printed, excess):
        model = of_ten_classes(name)
        features = model.get_layer("features").output.shape[-1]
        without_classifier = trainable_count(model) - 10 * (features + 1)
        half_a_digit = 0.5 * 0.1 ** len(printed.split(".")[1])
        assert without_classifier / 1e6 == pytest.approx(float(printed), rel=0.01, abs=half_a_digit)
        of_100_classes = without_classifier + 100 * (features + 1)
        assert 100 * (of_100_classes / 1e6 / float(printed) - 1) == pytest.approx(excess, abs=0.05)


class TestDepth:
    @pytest.mark.parametrize(
        ("function", "depth", "nearest"),
        [
            (ResNetV1, 21, "20, 26"),
            (ResNetV1, 2, "8, 14"),
            (ResNetV1, -5, "8, 14"),
            (ResNetV2, 20 + 1, "20, 29"),
            (ResNetV2, 84, "83, 92"),
            (WideResNet, 39, "34, 40"),
            (DenseNet, 39, "37, 40"),
            (DenseNet, 4, "7, 10"),
            (ResNeXt, 30, "29, 38"),
        ],
    )
    def test_a_wrong_depth_lists_the_nearest_valid_ones(self, function, depth, nearest):
        with pytest.raises(ValueError, match=f"depth={depth}. Nearest valid depths: {nearest}"):
            function(depth)

    @pytest.mark.parametrize("function", [ResNet, DenseNetBC, DLA])
    @pytest.mark.parametrize("depth", [20, 18.0, "18", None])
    def test_a_wrong_depth_lists_those_of_the_paper(self, function, depth):
        with pytest.raises(ValueError, match=rf"`depth` must be one of [0-9, ]+. Received: depth={depth!r}"):
            function(depth)

    @pytest.mark.parametrize(
        ("function", "depth"), [(ResNetV1, 14), (ResNetV2, 20), (DenseNet, 7), (DenseNet, 13), (ResNeXt, 20)]
    )
    def test_counts_the_layers_on_the_longest_path(self, function, depth):
        assert longest_path(function(depth, input_shape=(8, 8, 1))) == depth

    @pytest.mark.parametrize(
        ("name", "depth"), [("resnet18", 18), ("resnet50", 50), ("resnet200", 200), ("densenet121", 121), ("dla34", 34)]
    )
    def test_counts_the_layers_on_the_longest_path_of_the_papers_networks(self, of_ten_classes, name, depth):
        assert longest_path(of_ten_classes(name)) == depth


class TestArguments:
    @pytest.mark.parametrize(
        ("function", "name", "value"),
        [
            (DLA, "l2", -1e-4),
            (ResNet, "classifier_activation", "softmaxx"),
        ],
    )
    def test_a_wrong_value_is_named_and_shown(self, function, name, value):
        with pytest.raises(ValueError, match=rf"(?s)`{name}` must be .*Received: {name}={re.escape(repr(value))}"):
            function(**{name: value})

    def test_numpy_numbers_are_numbers(self):
        assert ResNetV1(np.int64(8), (np.int64(8), 8, 1), np.int64(3)).output_shape == (None, 3)
        assert ResNet(np.int64(18), (8, 8, 1)).name == "resnet18"

    def test_channels_first_is_refused(self):
        keras.config.set_image_data_format("channels_first")
        try:
            with pytest.raises(ValueError, match="channels_last"):
                ResNetV1(8)
        finally:
            keras.config.set_image_data_format("channels_last")

    def test_without_activation_the_outputs_are_logits(self):
        x, _ = batch((8, 8, 1))
        keras.utils.set_random_seed(1)
        logits = build("resnet8v1", (8, 8, 1), 4, classifier_activation=None)(x)
        keras.utils.set_random_seed(1)
        probabilities = build("resnet8v1", (8, 8, 1), 4)(x)
        np.testing.assert_allclose(keras.ops.softmax(logits), probabilities, atol=1e-5)

    def test_the_same_seed_gives_the_same_weights(self):
        def weights(seed):
            keras.utils.clear_session()
            keras.utils.set_random_seed(seed)
            return build("resnet8v1", (8, 8, 1), 4).get_weights()

        first, again, other = weights(3), weights(3), weights(4)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


class TestPenalty:
    def test_l2_of_a_resnet_is_the_sum_of_squared_kernels(self):
        model = build("resnet8v1", (8, 8, 1), 4)
        kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        assert float(sum(model.losses)) == pytest.approx(1e-4 * squares(kernels), rel=1e-4)

    @pytest.mark.parametrize(
        ("name", "expected"), [("wrn10-1", 2.5e-4), ("densenet10-12", 5e-5), ("resnext11-2x4d", 2.5e-4)]
    )
    def test_l2_is_the_sum_of_all_squared_weights(self, name, expected):
        model = SMALL[name](input_shape=(8, 8, 1), classes=4)
        rng = np.random.default_rng(0)
        for weight in model.trainable_weights:
            weight.assign(rng.normal(size=weight.shape))
        assert len(model.losses) == len(model.trainable_weights)
        assert float(sum(model.losses)) == pytest.approx(expected * squares(model.trainable_weights), rel=1e-4)

    @pytest.mark.parametrize("name", ["resnet18", "resnext29-4x64d", "densenet121", "dla34"])
    def test_l2_is_that_of_the_label_distribution_paper(self, of_ten_classes, name):
        model = of_ten_classes(name)
        assert len(model.losses) == len(model.trainable_weights)
        assert float(sum(model.losses)) == pytest.approx(5e-4 / 2 * squares(model.trainable_weights), rel=1e-4)

    @pytest.mark.parametrize("function", [WideResNet, DenseNet])
    def test_a_step_of_sgd_decays_all_weights_by_twice_l2(self, function):
        def step(l2):
            keras.utils.set_random_seed(0)
            model = function(10, input_shape=(8, 8, 1), classes=4, classifier_activation=None, dropout=0.0, l2=l2)
            for weight in model.trainable_weights:
                weight.assign(weight + 0.1)
            before = [np.array(weight) for weight in model.trainable_weights]
            model.compile(keras.optimizers.SGD(0.1), kls.SmoothedCE(0.9, from_logits=True), run_eagerly=True)
            model.train_on_batch(*batch((8, 8, 1)))
            return before, [np.array(weight) for weight in model.trainable_weights]

        before, plain = step(0.0)
        _, decayed = step(0.05)
        for start, without, with_penalty in zip(before, plain, decayed, strict=True):
            np.testing.assert_allclose(without - with_penalty, 0.1 * 2 * 0.05 * start, atol=1e-5)

    def test_none_without_l2(self):
        assert build("resnet8v1", (8, 8, 1), 4, l2=0).losses == []


@pytest.mark.parametrize(
    "network", [partial(WideResNet, 10, 4), partial(DenseNet, 10, 48), partial(ResNeXt, 11, 2, 16), SMALL["resnet18"]]
)
def test_kernels_are_drawn_as_by_the_authors(network):
    model = network(input_shape=(8, 8, 3))
    kernel = max((w for w in model.trainable_weights if w.name == "kernel"), key=lambda w: np.prod(w.shape))
    size, _, _, filters = kernel.shape
    assert float(np.std(kernel)) == pytest.approx(np.sqrt(2 / (size**2 * filters)), rel=0.02)


@pytest.mark.parametrize("network", [*SMALL.values(), DLA], ids=[*SMALL, "dla34"])
def test_a_training_step_lowers_the_loss(network):
    model = network(input_shape=(9, 11, 1), classes=4, classifier_activation=None)
    model.compile(keras.optimizers.SGD(0.01), kls.SmoothedCE(0.9, from_logits=True), run_eagerly=True)
    x, y = batch((9, 11, 1))
    first = model.train_on_batch(x, y)
    assert model.train_on_batch(x, y) < first


def test_densenet_concatenates_in_blocks_and_halves_between_them():
    model = DenseNet(10, 5, input_shape=(32, 30, 3))
    shapes = [layer.output.shape[1:] for layer in model.layers if isinstance(layer, keras.layers.Concatenate)]
    assert shapes == [(32, 30, 15), (32, 30, 20), (16, 15, 25), (16, 15, 30), (8, 7, 35), (8, 7, 40)]
    assert model.get_layer("features").output.shape == (None, 40)


@pytest.mark.parametrize(("dropout", "count"), [(0.0, 0), (0.2, 8)])
def test_densenet_drops_after_each_convolution_but_the_first(dropout, count):
    model = DenseNet(10, 12, input_shape=(8, 8, 3), dropout=dropout)
    sources = [
        layer.input._keras_history.operation for layer in model.layers if isinstance(layer, keras.layers.Dropout)
    ]
    assert len(sources) == count
    assert all(isinstance(source, keras.layers.Conv2D) for source in sources)


def sizes(model, kind):
    """The sizes that the layers of a kind give out, in order and without repetition."""
    found = [layer.output.shape[1:] for layer in model.layers if isinstance(layer, kind)]
    return list(dict.fromkeys(found))


def test_resnet_halves_the_image_before_all_stages_but_the_first(of_ten_classes):
    added = sizes(of_ten_classes("resnet18"), keras.layers.Add)
    assert added == [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512)]
    added = sizes(of_ten_classes("resnet50"), keras.layers.Add)
    assert added == [(32, 32, 256), (16, 16, 512), (8, 8, 1024), (4, 4, 2048)]


def test_resnet_bottlenecks_stride_in_their_3x3_convolution(of_ten_classes):
    convolutions = [layer for layer in of_ten_classes("resnet50").layers if isinstance(layer, keras.layers.Conv2D)]
    strided = [layer for layer in convolutions if layer.strides == (2, 2)]
    assert sorted(layer.kernel_size for layer in strided) == [(1, 1)] * 3 + [(3, 3)] * 3
    assert all(layer.filters == 2 * layer.input.shape[-1] for layer in strided if layer.kernel_size == (1, 1))


def test_resnext_groups_its_3x3_convolutions(of_ten_classes):
    model = of_ten_classes("resnext29-4x64d")
    grouped = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D) and layer.groups > 1]
    assert [tuple(layer.kernel.shape) for layer in grouped] == [
        (3, 3, width, 4 * width) for width in (64, 128, 256) for _ in range(3)
    ]
    assert sizes(model, keras.layers.Add) == [(32, 32, 512), (16, 16, 1024), (8, 8, 2048)]


def test_densenet_bc_concatenates_bottlenecks_and_halves_channels(of_ten_classes):
    model = of_ten_classes("densenet121")
    joined = sizes(model, keras.layers.Concatenate)
    assert (len(joined), joined[0], joined[-1]) == (58, (32, 32, 96), (4, 4, 1024))
    assert sizes(model, keras.layers.AveragePooling2D) == [(16, 16, 128), (8, 8, 256), (4, 4, 512)]
    x, _ = batch((32, 32, 3), n=2)
    np.testing.assert_allclose(np.sum(model(x), axis=1), 1, rtol=1e-5)


def test_dla_concatenates_blocks_and_the_trees_before_them(of_ten_classes):
    joined = sizes(of_ten_classes("dla34"), keras.layers.Concatenate)
    assert joined == [(32, 32, 128), (16, 16, 256), (16, 16, 512), (8, 8, 512), (8, 8, 1024), (4, 4, 1024)]


@every_family
def test_saves_and_loads(network, tmp_path):
    model = network(input_shape=(8, 8, 3), classes=5)
    x, _ = batch((8, 8, 3))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(x), again(x))


@every_family
@pytest.mark.usefixtures("bfloat16")
def test_mixed_precision_returns_float32_near_float32(network):
    x, _ = batch((8, 8, 3))
    mixed = network(input_shape=(8, 8, 3), classes=5)
    probabilities = mixed(x)
    keras.config.set_dtype_policy("float32")
    plain = network(input_shape=(8, 8, 3), classes=5)
    plain.set_weights(mixed.get_weights())
    assert keras.backend.standardize_dtype(probabilities.dtype) == "float32"
    assert {keras.backend.standardize_dtype(w.dtype) for w in mixed.trainable_weights} == {"float32"}
    np.testing.assert_allclose(probabilities, plain(x), atol=0.1)


@every_family
def test_takes_odd_sizes(network):
    shape = (33, 18, 1)
    model = network(input_shape=shape, classes=7)
    assert model.output_shape == (None, 7)
    np.testing.assert_allclose(np.sum(model(batch(shape, n=2)[0]), axis=1), 1, rtol=1e-5)
