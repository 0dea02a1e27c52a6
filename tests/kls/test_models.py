import keras
import numpy as np
import pytest

import kls
from kls.models import DenseNet, ResNetV1, ResNetV2, WideResNet, build, names, register

every_model = pytest.mark.parametrize("name", names())
# deeper forms of densenet10-12 and wrn16-2, slow to build
every_quick_model = pytest.mark.parametrize("name", sorted({*names()} - {"densenet40-12", "wrn40-2"}))


def batch(shape, classes=4, n=8):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, *shape)).astype("float32"), np.arange(n) % classes


def squares(weights):
    return sum(float(np.sum(np.square(np.asarray(weight, "float64")))) for weight in weights)


def trainable_count(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


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
        ],
    )
    def test_a_wrong_depth_lists_the_nearest_valid_ones(self, function, depth, nearest):
        with pytest.raises(ValueError, match=f"depth={depth}. Nearest valid depths: {nearest}"):
            function(depth)

    @pytest.mark.parametrize(("function", "depth", "convolutions"), [(ResNetV1, 14, 13), (ResNetV2, 20, 19)])
    def test_depth_counts_the_layers_on_the_longest_path(self, function, depth, convolutions):
        model = function(depth, input_shape=(8, 8, 1))
        shortcuts = sum(1 for layer in model.layers if isinstance(layer, keras.layers.Conv2D)) - convolutions
        assert shortcuts == (2 if function is ResNetV1 else 3)

    @pytest.mark.parametrize("depth", [7, 13])
    def test_depth_of_a_densenet_counts_convolutions_and_the_classifier(self, depth):
        model = DenseNet(depth, input_shape=(8, 8, 1))
        assert sum(isinstance(layer, keras.layers.Conv2D | keras.layers.Dense) for layer in model.layers) == depth


class TestArguments:
    @pytest.mark.parametrize("shape", [(7, 8, 3), (32, 32, 2), (32, 32), (None, None, 3)])
    @every_model
    def test_a_wrong_input_shape_is_named(self, name, shape):
        with pytest.raises(ValueError, match="input_shape"):
            build(name, shape, 10)

    @pytest.mark.parametrize("arguments", [{"depth": 20.0}, {"input_shape": 32}, {"classes": "10"}])
    def test_what_is_no_number_is_named(self, arguments):
        with pytest.raises(ValueError, match=f"Received: {next(iter(arguments))}="):
            ResNetV1(**arguments)

    def test_numpy_numbers_are_numbers(self):
        assert ResNetV1(np.int64(8), (np.int64(8), 8, 1), np.int64(3)).output_shape == (None, 3)

    def test_channels_first_is_refused(self):
        keras.config.set_image_data_format("channels_first")
        try:
            with pytest.raises(ValueError, match="channels_last"):
                ResNetV1(8)
        finally:
            keras.config.set_image_data_format("channels_last")

    def test_one_class_is_refused(self):
        with pytest.raises(ValueError, match="classes=1"):
            build("resnet8v1", (8, 8, 3), 1)

    def test_an_unknown_name_lists_the_registered_and_the_nearest(self):
        with pytest.raises(ValueError, match=r"wrn40-2.*Received: name='resnet20'. Did you mean .*resnet20v1"):
            build("resnet20", (32, 32, 3), 10)

    def test_a_name_is_registered_once(self):
        with pytest.raises(ValueError, match="name='resnet20v1'"):
            register("resnet20v1", ResNetV1)

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

    @pytest.mark.parametrize(("name", "expected"), [("wrn16-2", 2.5e-4), ("densenet10-12", 5e-5)])
    def test_l2_is_the_sum_of_all_squared_weights(self, name, expected):
        model = build(name, (8, 8, 1), 4)
        rng = np.random.default_rng(0)
        for weight in model.trainable_weights:
            weight.assign(rng.normal(size=weight.shape))
        assert len(model.losses) == len(model.trainable_weights)
        assert float(sum(model.losses)) == pytest.approx(expected * squares(model.trainable_weights), rel=1e-4)

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


@pytest.mark.parametrize(("function", "factor"), [(WideResNet, 4), (DenseNet, 48)])
def test_kernels_are_drawn_as_by_the_authors(function, factor):
    model = function(10, factor, dropout=0.0, input_shape=(8, 8, 3))
    kernel = max((w for w in model.trainable_weights if w.name == "kernel"), key=lambda w: np.prod(w.shape))
    size, _, _, filters = kernel.shape
    assert float(np.std(kernel)) == pytest.approx(np.sqrt(2 / (size**2 * filters)), rel=0.02)


@every_quick_model
def test_a_training_step_lowers_the_loss(name):
    options = {"dropout": 0.0} if name.startswith("wrn") else {}
    model = build(name, (9, 11, 1), 4, classifier_activation=None, **options)
    model.compile(keras.optimizers.SGD(0.01), kls.SmoothedCE(0.9, from_logits=True), run_eagerly=True)
    x, y = batch((9, 11, 1))
    first = model.train_on_batch(x, y)
    assert model.train_on_batch(x, y) < first


def test_densenet_concatenates_within_a_block_and_halves_between_blocks():
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


@every_quick_model
def test_saves_and_loads(name, tmp_path):
    model = build(name, (8, 8, 3), 5)
    x, _ = batch((8, 8, 3))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(x), again(x))


@every_quick_model
@pytest.mark.usefixtures("bfloat16")
def test_mixed_precision_returns_float32_near_float32(name):
    x, _ = batch((8, 8, 3))
    mixed = build(name, (8, 8, 3), 5)
    probabilities = mixed(x)
    keras.config.set_dtype_policy("float32")
    plain = build(name, (8, 8, 3), 5)
    plain.set_weights(mixed.get_weights())
    assert keras.backend.standardize_dtype(probabilities.dtype) == "float32"
    assert {keras.backend.standardize_dtype(w.dtype) for w in mixed.trainable_weights} == {"float32"}
    np.testing.assert_allclose(probabilities, plain(x), atol=0.1)


@every_quick_model
@pytest.mark.parametrize("shape", [(8, 8, 1), (13, 10, 3), (33, 32, 1)])
def test_takes_odd_sizes(name, shape):
    model = build(name, shape, 7)
    assert model.output_shape == (None, 7)
    np.testing.assert_allclose(np.sum(model(batch(shape, n=2)[0]), axis=1), 1, rtol=1e-5)
