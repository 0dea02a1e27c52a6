import keras
import numpy as np
import pytest

from kls.study.heads import all_layers, head_layer, head_network, parted, with_new_head

from . import my_models, pretrained

SHAPE = (8, 8, 1)
X = np.random.default_rng(0).normal(size=(12, *SHAPE)).astype(np.float32)
Y = np.arange(12) % 3


def features_of(x):
    """Returns what the backbone makes of images, by NumPy."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(0, 0.5, (3, 3, 1, 6)), rng.normal(0, 0.5, 6)
    gamma, beta, mean, variance = rng.uniform(0.2, 0.8, (4, 6))
    windows = np.lib.stride_tricks.sliding_window_view(x[..., 0], (3, 3), axis=(1, 2))[:, ::2, ::2]
    maps = np.einsum("nhwij,ijk->nhwk", windows, kernel[:, :, 0]) + bias
    return np.maximum(gamma * (maps - mean) / np.sqrt(variance + 1e-3) + beta, 0).mean(axis=(1, 2))


@pytest.fixture
def weights_of():
    return lambda model: {layer.name: layer.get_weights() for layer in all_layers(model)}


class TestLayers:
    @pytest.mark.parametrize("build", [pretrained.flat, pretrained.nested, pretrained.sequential])
    def test_those_of_nested_models_stand_in_their_order(self, build):
        names = [layer.name for layer in all_layers(build(SHAPE, 3)) if not layer.name.startswith("input")]
        assert names[:4] == ["conv", "norm", "relu", "pool"]
        assert [name.partition("_")[0] for name in names[4:]] == ["dropout", "dense"]

    def test_a_layer_that_is_used_twice_is_one(self):
        dense = keras.layers.Dense(3)
        inputs = keras.Input((3,))
        assert all_layers(keras.Model(inputs, dense(dense(inputs)))).count(dense) == 1


class TestParted:
    @pytest.mark.parametrize(
        ("build", "rates"),
        [
            (pretrained.flat, (0.25,)),
            (pretrained.nested, (0.25,)),
            (pretrained.sequential, (0.25,)),
            (pretrained.convolution, ()),
        ],
    )
    def test_features_are_those_of_numpy(self, build, rates):
        backbone, found = parted(build(SHAPE, 3))
        assert found == rates
        np.testing.assert_allclose(backbone(X), features_of(X), rtol=1e-4, atol=1e-5)

    def test_several_dropouts_are_those_of_the_head_in_their_order(self):
        inputs = keras.Input((4,))
        x = keras.layers.Dropout(0.2)(keras.layers.Dropout(0.1)(keras.layers.Dense(4)(inputs)))
        backbone, rates = parted(keras.Model(inputs, keras.layers.Dense(3)(x)))
        assert rates == (0.1, 0.2)
        assert [type(layer).__name__ for layer in backbone.layers] == ["InputLayer", "Dense"]

    @pytest.mark.parametrize("build", [my_models.subclassed, my_models.with_logarithm])
    def test_others_have_no_head(self, build):
        model = build(SHAPE, 3)
        model(X)
        assert parted(model) is None


class TestHeads:
    def test_it_is_one_linear_layer_behind_its_dropouts(self):
        head = head_network(5, 3, (0.1, 0.5))
        assert [layer.rate for layer in head.layers[1:-1]] == [0.1, 0.5]
        kernel, bias = head.layers[-1].get_weights()
        x = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
        np.testing.assert_allclose(head(x), x @ kernel + bias, atol=1e-6)

    def test_it_is_found_beside_a_layer_of_such_a_name(self):
        network = with_new_head(pretrained.with_a_layer_called_head(SHAPE, 3), 3, "all")
        assert head_layer(network) is network.layers[-1]

    @pytest.mark.parametrize("build", [pretrained.flat, pretrained.nested, pretrained.sequential])
    @pytest.mark.parametrize(("fine_tune", "trained"), [("all", {"conv"}), (1, {"conv"}), (2, {"conv"})])
    def test_what_is_trained_of_a_backbone(self, build, fine_tune, trained):
        network = with_new_head(build(SHAPE, 3), 3, fine_tune)
        owners = {variable.path.split("/")[-2] for variable in network.trainable_variables}
        assert owners == {*trained, head_layer(network).name}

    @pytest.mark.parametrize(
        ("fine_tune", "trained"), [("all", {"first", "second"}), (1, {"second"}), (2, {"first", "second"})]
    )
    def test_layers_below_and_statistics_keep_their_bits(self, fine_tune, trained, weights_of):
        inputs = keras.Input(SHAPE)
        x = inputs
        for name in ("first", "second"):
            x = keras.layers.Conv2D(4, 3, name=name)(x)
            x = keras.layers.BatchNormalization(name=f"norm_{name}")(x)
        base = pretrained.pretrain(keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)))
        outer = keras.Input(SHAPE)
        network = with_new_head(keras.Model(outer, keras.layers.Dense(3)(base(outer))), 3, fine_tune)
        before = weights_of(network)
        network.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        for _ in range(2):
            network.train_on_batch(X, Y)
        after = weights_of(network)
        changed = {name for name in before if not all(map(np.array_equal, before[name], after[name]))}
        assert changed == {*trained, head_layer(network).name}
