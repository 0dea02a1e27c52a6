import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import kls

BACKEND = keras.backend.backend()


def sample(n=6, k=5, seed=0):
    """Returns logits, their softmax and labels, in float64."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(n, k))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits, p / p.sum(axis=1, keepdims=True), rng.integers(k, size=n)


def numbers(tensor):
    return ops.convert_to_numpy(tensor)


def gradient(loss_of, logits):
    """Returns the gradient of a scalar function of logits on the backend at hand."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss_of(x)
        return tape.gradient(value, x).numpy()
    import jax

    return np.asarray(jax.grad(loss_of)(logits))


def compiled(function):
    """Compiles a function of tensors on the backend at hand."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    import jax

    return jax.jit(function)


class TestValue:
    def test_by_hand(self):
        # b = 0.1, a = 0.7; -(0.7 ln 0.9 + 0.1 ln(0.9 * 0.05 * 0.05)), -(0.7 ln 0.6 + 0.1 ln(0.1 * 0.6 * 0.3))
        loss = kls.SmoothedCE(gamma=0.8, reduction=None)
        losses = numbers(loss([0, 1], [[0.9, 0.05, 0.05], [0.1, 0.6, 0.3]]))
        np.testing.assert_allclose(losses, [0.683437, 0.759317], atol=1e-5)

    @pytest.mark.parametrize(("p", "expected"), [(0.19, 1.6607), (0.91, 0.0943)])
    def test_the_papers_example_without_smoothing(self, p, expected):
        row = [p] + [(1 - p) / 9] * 9
        assert float(kls.SmoothedCE(gamma=1)([0], [row])) == pytest.approx(expected, abs=5e-5)

    def test_the_loss_is_least_where_the_prediction_is_the_smoothed_label(self):
        loss = kls.SmoothedCE(gamma=0.7)
        best = float(loss([0], [[0.7, 0.15, 0.15]]))
        for other in ([0.8, 0.1, 0.1], [0.6, 0.2, 0.2], [0.7, 0.2, 0.1]):
            assert float(loss([0], [other])) > best


@pytest.mark.usefixtures("float64")
class TestAgainstKeras:
    @settings(max_examples=30, deadline=None)
    @given(
        epsilon=st.floats(0, 0.95),
        k=st.sampled_from([2, 3, 10, 40]),
        seed=st.integers(0, 1000),
        from_logits=st.booleans(),
    )
    def test_equals_categorical_crossentropy_with_label_smoothing(self, epsilon, k, seed, from_logits):
        logits, p, labels = sample(k=k, seed=seed)
        theirs = keras.losses.CategoricalCrossentropy(
            label_smoothing=epsilon, from_logits=from_logits, reduction=None, dtype="float64"
        )
        ours = kls.SmoothedCE(
            kls.gamma_from_epsilon(epsilon, k), from_logits=from_logits, reduction=None, dtype="float64"
        )
        y_pred = logits if from_logits else p
        expected = numbers(theirs(np.eye(k)[labels], y_pred))
        np.testing.assert_allclose(numbers(ours(labels, y_pred)), expected, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(numbers(ours(np.eye(k)[labels], y_pred)), expected, rtol=1e-11, atol=1e-11)

    @pytest.mark.parametrize("from_logits", [True, False])
    def test_gamma_one_is_categorical_crossentropy(self, from_logits):
        logits, p, labels = sample(n=50)
        ours = kls.SmoothedCE(gamma=1, from_logits=from_logits, reduction=None, dtype="float64")
        theirs = keras.losses.CategoricalCrossentropy(from_logits=from_logits, reduction=None, dtype="float64")
        y_pred = logits if from_logits else p
        expected = numbers(theirs(np.eye(5)[labels], y_pred))
        np.testing.assert_allclose(numbers(ours(labels, y_pred)), expected, rtol=1e-13)

    def test_mixed_labels_equal_keras_on_the_smoothed_distribution(self):
        logits, _, _ = sample(k=4)
        mixed = np.random.default_rng(1).dirichlet(np.ones(4), size=len(logits))
        a, b = kls.targets.smoothing_weights(0.85, 4)
        theirs = keras.losses.CategoricalCrossentropy(from_logits=True, dtype="float64")
        ours = kls.SmoothedCE(0.85, from_logits=True, dtype="float64")
        assert float(ours(mixed, logits)) == pytest.approx(float(theirs(a * mixed + b, logits)), rel=1e-12)

    @pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", None])
    def test_weights_and_reductions(self, reduction):
        logits, _, labels = sample()
        weights = np.array([0.0, 1.0, 2.0, 0.5, 1.0, 3.0])
        ours = kls.SmoothedCE(0.9, from_logits=True, reduction=reduction, dtype="float64")
        theirs = keras.losses.CategoricalCrossentropy(
            label_smoothing=kls.epsilon_from_gamma(0.9, 5), from_logits=True, reduction=reduction, dtype="float64"
        )
        np.testing.assert_allclose(
            numbers(ours(labels, logits, sample_weight=weights)),
            numbers(theirs(np.eye(5)[labels], logits, sample_weight=weights)),
            rtol=1e-12,
        )


class TestShapes:
    def test_a_column_of_labels_is_a_row_of_labels(self):
        logits, _, labels = sample()
        loss = kls.SmoothedCE(0.9, from_logits=True)
        assert float(loss(labels[:, None], logits)) == float(loss(labels, logits))

    def test_dense_predictions(self):
        logits, _, labels = sample(n=24)
        loss = kls.SmoothedCE(0.9, from_logits=True, reduction=None)
        dense = loss(labels.reshape(2, 3, 4), logits.reshape(2, 3, 4, 5))
        np.testing.assert_allclose(numbers(dense).reshape(-1), numbers(loss(labels, logits)), rtol=1e-6)

    def test_a_batch_of_k_samples_is_still_labels(self):
        logits, _, labels = sample(n=5, k=5)
        loss = kls.SmoothedCE(0.9, from_logits=True)
        assert float(loss(labels, logits)) == pytest.approx(float(loss(np.eye(5)[labels], logits)), rel=1e-6)

    @pytest.mark.parametrize("shape", [(6, 4), (6, 5, 1, 1), (), (1,), (1, 1), (1, 5), (5,)])
    def test_labels_that_do_not_fit_are_refused_with_both_shapes(self, shape):
        logits, _, _ = sample()
        with pytest.raises(ValueError, match=r"y_true\.shape=.*y_pred\.shape=\(6, 5\)"):
            kls.SmoothedCE(0.9, from_logits=True)(np.zeros(shape, "float32"), logits)

    def test_predictions_without_a_class_axis_are_refused(self):
        with pytest.raises(ValueError, match=r"y_pred\.shape=\(3,\)"):
            kls.SmoothedCE(0.9)(np.zeros(3, "float32"), np.full(3, 0.5, "float32"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_dtype_that_does_not_hold_every_class_index_is_refused(dtype):
    with pytest.raises(ValueError, match=f"Received: {dtype}"):
        kls.SmoothedCE(0.9, dtype=dtype)


class TestGamma:
    @pytest.mark.parametrize("gamma", [0, -0.5, 1.0001, float("nan")])
    def test_outside_zero_to_one_is_refused_at_once(self, gamma):
        with pytest.raises(ValueError, match=f"gamma={gamma}"):
            kls.SmoothedCE(gamma=gamma)

    @pytest.mark.parametrize("gamma", [0.05, 0.1])
    def test_at_most_one_in_k_names_gamma_and_k(self, gamma):
        with pytest.raises(ValueError, match=f"gamma={gamma} with K=10"):
            kls.SmoothedCE(gamma=gamma)(np.zeros(2), np.full((2, 10), 0.1))

    def test_just_above_one_in_k_is_taken(self):
        assert np.isfinite(float(kls.SmoothedCE(gamma=0.11)(np.zeros(2), np.full((2, 10), 0.1))))


class TestLabels:
    @pytest.mark.parametrize("wrong", [-1, 5, 2.5, float("nan")])
    def test_a_label_outside_is_refused_when_eager(self, wrong):
        logits, _, _ = sample(n=3)
        with pytest.raises(ValueError, match=rf"0\.\.4.*{wrong}"):
            kls.SmoothedCE(0.9, from_logits=True)(np.array([0, wrong, 1], "float32"), logits)

    @pytest.mark.parametrize("wrong", [-1, 5])
    def test_a_label_outside_makes_the_loss_nan_when_compiled(self, wrong):
        logits, _, _ = sample(n=3)
        loss = kls.SmoothedCE(0.9, from_logits=True, reduction=None)
        labels = np.array([0, wrong, 1], "int32")
        losses = numbers(compiled(lambda y, z: loss(y, z))(labels, logits.astype("float32")))
        np.testing.assert_array_equal(np.isnan(losses), [False, True, False])


class TestGradient:
    @pytest.mark.parametrize("gamma", [1, 0.9, 0.5])
    @pytest.mark.parametrize("from_logits", [True, False])
    def test_is_finite_at_huge_logits(self, gamma, from_logits):
        logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [0, -1e4, 1e4]], "float32")
        labels = np.array([1, 1, 1])
        loss = kls.SmoothedCE(gamma, from_logits=from_logits)

        def value(z):
            return loss(labels, z if from_logits else ops.softmax(z))

        assert np.isfinite(float(value(ops.convert_to_tensor(logits))))
        assert np.isfinite(gradient(value, logits)).all()

    def test_is_softmax_minus_the_smoothed_label(self):
        logits, p, labels = sample()
        target = np.full((6, 5), 0.2 / 4)
        target[np.arange(6), labels] = 0.8
        loss = kls.SmoothedCE(0.8, from_logits=True, reduction="sum")
        found = gradient(lambda z: loss(labels, z), logits.astype("float32"))
        np.testing.assert_allclose(found, p - target, atol=1e-6)

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras keeps a softmax layer's logits on TensorFlow alone")
    def test_of_a_saturated_softmax_layer_does_not_vanish(self):
        logits = np.array([[60.0, 0.0, 0.0]], "float32")
        loss = kls.SmoothedCE(0.9)
        found = gradient(lambda z: loss(np.array([1]), keras.activations.softmax(z)), logits)
        np.testing.assert_allclose(found, [[0.95, -0.9, -0.05]], atol=1e-6)


class TestManyClasses:
    def test_1623_classes_without_a_one_hot_matrix(self, monkeypatch):
        logits, _, labels = sample(n=32, k=1623)
        expected = float(kls.SmoothedCE(0.5, from_logits=True)(np.eye(1623)[labels], logits))
        monkeypatch.setattr(ops, "one_hot", None)
        found = float(kls.SmoothedCE(0.5, from_logits=True)(labels, logits))
        assert found == pytest.approx(expected, rel=1e-5)

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="reads TensorFlow's graph")
    def test_the_graph_holds_no_one_hot(self):
        import tensorflow as tf

        loss = kls.SmoothedCE(0.5, from_logits=True)
        graph = tf.function(loss).get_concrete_function(
            tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, 1623), tf.float32)
        )
        assert "OneHot" not in {operation.type for operation in graph.graph.get_operations()}


class TestSerialisation:
    def test_config_round_trip(self):
        loss = kls.SmoothedCE(0.7, from_logits=True, reduction="sum", name="soft")
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert isinstance(again, kls.SmoothedCE)
        assert again.get_config() == loss.get_config()
        assert (again.gamma, again.from_logits, again.reduction, again.name) == (0.7, True, "sum", "soft")

    def test_a_saved_model_keeps_its_loss(self, tmp_path):
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        model.compile("sgd", kls.SmoothedCE(0.8))
        x, y = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.arange(8) % 3
        expected = model.evaluate(x, y, verbose=0)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert again.loss.gamma == 0.8
        assert again.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-6)
