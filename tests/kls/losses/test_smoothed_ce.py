import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import kls

from .helpers import BACKEND, gradient, numbers, sample


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

    def test_a_batch_of_k_samples_is_still_labels(self):
        logits, _, labels = sample(n=5, k=5)
        loss = kls.SmoothedCE(0.9, from_logits=True)
        assert float(loss(labels, logits)) == pytest.approx(float(loss(np.eye(5)[labels], logits)), rel=1e-6)


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


class TestGamma:
    @pytest.mark.parametrize("gamma", [0.05, 0.1])
    def test_at_most_one_in_k_names_gamma_and_k(self, gamma):
        with pytest.raises(ValueError, match=f"gamma={gamma} with K=10"):
            kls.SmoothedCE(gamma=gamma)(np.zeros(2), np.full((2, 10), 0.1))

    def test_just_above_one_in_k_is_taken(self):
        assert np.isfinite(float(kls.SmoothedCE(gamma=0.11)(np.zeros(2), np.full((2, 10), 0.1))))


class TestGradient:
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
