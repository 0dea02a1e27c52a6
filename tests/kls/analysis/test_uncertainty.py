import itertools

import keras
import numpy as np
import pytest

import kls
from kls.utils.feature_extractor import Network

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype("float32")
Y = np.array([0, 1, 2, 0, 1, 2])


def network(activation=None, seed=1):
    layers = [keras.layers.Dense(3, "tanh"), keras.layers.Dense(3, activation, name="head")]
    model = keras.Sequential([keras.layers.Input((4,)), *layers])
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(scale=2, size=w.shape) for w in model.get_weights()])
    return model


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def plain():
    return np.asarray(network()(X))


def over_all_masks(model, rate):
    """Returns the expected probabilities, of features and head taken apart by NumPy."""
    kernel, bias, head, head_bias = model.get_weights()
    features = np.tanh(X.astype("float64") @ kernel + bias)
    expected = 0
    for mask in itertools.product([0, 1], repeat=3):
        probability = np.prod([1 - rate if kept else rate for kept in mask])
        expected = expected + probability * softmax(features * mask / (1 - rate) @ head + head_bias)
    return expected


def drawn(model, images=X):
    return np.asarray(model(images, training=False))


class TestInference:
    @pytest.mark.parametrize("activation", [None, "softmax"])
    def test_many_passes_tend_to_the_mean_over_all_masks(self, activation):
        model = network(activation)
        expected = over_all_masks(model, 0.3)
        assert np.abs(expected - softmax(plain())).max() > 0.05
        found = np.exp(drawn(kls.monte_carlo(model, 0.3, passes=20_000, seed=0)))
        np.testing.assert_allclose(found, expected, atol=0.015)

    def test_each_call_draws_anew(self):
        model = kls.monte_carlo(network(), passes=2, seed=0)
        first, second = drawn(model), drawn(model)
        assert np.abs(first - second).max() > 0.01
        np.testing.assert_allclose(np.exp(first).sum(axis=1), 1, rtol=1e-6)

    def test_predict_draws_anew_for_each_batch(self):
        model = kls.monte_carlo(network(), passes=2, seed=0)
        p = model.predict(np.repeat(X[:1], 8, axis=0), batch_size=4, verbose=0)
        assert len(np.unique(p[:, 0])) > 4

    def test_an_evaluation_draws_anew_and_knows_these_are_no_logits(self):
        evaluated = Network(kls.monte_carlo(network(), passes=2, seed=0))
        first, second = evaluated.outputs(X), evaluated.outputs(X)
        assert np.abs(first.logits - second.logits).max() > 0.01
        assert not first.exact_logits
        assert evaluated.gives_log_probabilities

    def test_spread_shrinks_with_the_passes(self):
        few, many = (kls.monte_carlo(network(), 0.3, passes=passes, seed=0) for passes in (1, 25))
        images = np.repeat(X[:1], 400, axis=0)
        spread = [np.exp(drawn(model, images)).std(axis=0) for model in (few, many)]
        np.testing.assert_allclose(spread[0] / spread[1], 5, rtol=0.2)

    def test_the_same_seed_gives_the_same_draws(self):
        model = network()
        first, second, other = (drawn(kls.monte_carlo(model, seed=seed)) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, second)
        assert (first != other).any()

    @pytest.mark.parametrize("activation", [None, "softmax"])
    def test_without_dropout_it_is_the_plain_model(self, activation):
        model = network(activation)
        found = np.exp(drawn(kls.monte_carlo(model, rate=0.0, passes=3)))
        np.testing.assert_allclose(found, softmax(plain()), rtol=1e-5)

    def test_a_nested_model_with_softmax_after_its_head(self):
        nested = keras.Sequential([keras.layers.Input((4,)), network(), keras.layers.Softmax()])
        found = np.exp(drawn(kls.monte_carlo(nested, rate=0.0)))
        np.testing.assert_allclose(found, nested(X), rtol=1e-5)

    @pytest.mark.usefixtures("bfloat16")
    def test_half_precision_gives_float32(self):
        found = drawn(kls.monte_carlo(network(), passes=200, seed=0))
        assert found.dtype == "float32"
        np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-5)

    def test_network_takes_its_outputs_for_logits(self):
        outputs = Network(kls.monte_carlo(network(), rate=0.0)).outputs(X)
        np.testing.assert_allclose(np.exp(outputs.logits), softmax(plain()), rtol=1e-5)

    def test_one_output_tends_to_the_mean_over_all_masks_of_two_classes(self):
        model = keras.Sequential(
            [keras.layers.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1, "sigmoid")]
        )
        model.set_weights([RNG.normal(scale=2, size=weight.shape) for weight in model.get_weights()])
        kernel, bias, head, head_bias = model.get_weights()
        twin = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(2)])
        twin.set_weights([kernel, bias, np.hstack([0 * head, head]), np.hstack([0 * head_bias, head_bias])])
        found = np.exp(drawn(kls.monte_carlo(model, 0.3, passes=20_000, seed=0)))
        np.testing.assert_allclose(found, over_all_masks(twin, 0.3), atol=0.015)

    def test_a_convolution_as_head_is_saved_and_loaded(self, tmp_path):
        layers = [keras.layers.Conv2D(3, 1), keras.layers.GlobalAveragePooling2D(), keras.layers.Softmax()]
        model = keras.Sequential([keras.layers.Input((2, 2, 4)), keras.layers.Conv2D(5, 1), *layers])
        images = RNG.normal(size=(6, 2, 2, 4)).astype("float32")
        monte_carlo = kls.monte_carlo(model, rate=0.0, passes=2)
        np.testing.assert_allclose(np.exp(drawn(monte_carlo, images)), model(images), rtol=1e-4, atol=1e-6)
        monte_carlo.save(tmp_path / "a.keras")
        again = keras.saving.load_model(tmp_path / "a.keras")
        np.testing.assert_allclose(drawn(again, images), drawn(monte_carlo, images), rtol=1e-5, atol=1e-6)


class TestTraining:
    def test_weights_are_those_of_the_model(self):
        model = network("softmax")
        dropped = kls.monte_carlo(model)
        assert {id(v) for v in dropped.trainable_variables} == {id(v) for v in model.trainable_variables}

    def test_one_pass_of_logits_with_ordinary_dropout(self):
        model = network("softmax")
        kernel, bias, head, head_bias = model.get_weights()
        features = np.tanh(X @ kernel + bias)
        masks = np.array(list(itertools.product([0, 1], repeat=3))) * 2**16 / 52429  # 0.2 is 13,107 of 2^16
        possible = (features[:, None] * masks) @ head + head_bias
        found = np.asarray(kls.monte_carlo(model, 0.2, seed=0)(X, training=True))
        assert (np.abs(possible - found[:, None]).max(axis=2).min(axis=1) < 1e-5).all()

    def test_a_student_is_trained_saved_and_loaded(self, tmp_path):
        student = kls.monte_carlo(network(), rate=0.5, passes=7, seed=5)
        before = student.get_weights()
        distiller = kls.Distiller(student, network(seed=2), from_logits=True)
        distiller.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
        history = distiller.fit(X, Y, verbose=0).history
        assert np.isfinite(history["loss"]).all()
        assert all((old != new).any() for old, new in zip(before, student.get_weights(), strict=True))
        distiller.save(tmp_path / "student.keras")
        again = keras.saving.load_model(tmp_path / "student.keras")
        for value, expected in zip(again.get_weights(), student.get_weights(), strict=True):
            np.testing.assert_array_equal(value, expected)
        config = again.layers[-1].get_config()
        assert (config["rate"], config["passes"], config["seed"]) == (0.5, 7, 5)

    def test_a_teacher_draws_anew_for_each_batch(self):
        teacher = kls.monte_carlo(network(seed=2), rate=0.5, passes=1, seed=0)
        distiller = kls.Distiller(network(), teacher, "ensemble", from_logits=True)
        distiller.compile(keras.optimizers.SGD(0.0))
        losses = distiller.fit(X, Y, batch_size=6, epochs=4, shuffle=False, verbose=0).history["loss"]
        assert len({round(loss, 5) for loss in losses}) > 2


class TestFailures:
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    def test_a_model_whose_last_layer_is_not_found(self):
        with pytest.raises(
            ValueError, match=r"`model` must be .* Dense layer or a 1x1 convolution. Received: <Subclassed"
        ):
            kls.monte_carlo(self.Subclassed())
