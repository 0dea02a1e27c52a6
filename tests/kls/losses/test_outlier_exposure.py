import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import kls
from kls.study.train import mirrored_strategy

from .helpers import BACKEND, compiled, gradient, numbers, sample


def composed(in_distribution, k=5, seed=0):
    """Returns logits, their softmax and labels, which are -1 where `in_distribution` is false."""
    logits, p, labels = sample(len(in_distribution), k, seed)
    return logits, p, np.where(in_distribution, labels, -1)


def two_means(labels, y_pred, weight, gamma=1.0, from_logits=True):
    """Returns equation 1 of Lee & Cheon by Keras's own losses."""
    k, outlier = y_pred.shape[-1], labels == -1
    id_loss = keras.losses.CategoricalCrossentropy(
        label_smoothing=kls.epsilon_from_gamma(gamma, k), from_logits=from_logits, reduction=None, dtype="float64"
    )
    outlier_loss = keras.losses.CategoricalCrossentropy(from_logits=from_logits, reduction=None, dtype="float64")
    id_losses = id_loss(np.eye(k)[np.where(outlier, 0, labels)], y_pred)
    outlier_losses = outlier_loss(np.full((len(labels), k), 1 / k), y_pred)
    shares = (
        np.where(outlier, 0.0, 1.0) / max((~outlier).sum(), 1),
        np.where(outlier, weight, 0.0) / max(outlier.sum(), 1),
    )
    return ops.sum(id_losses * shares[0]) + ops.sum(outlier_losses * shares[1])


COMPOSITIONS = {
    "both": [True, False, True, True, False, True],
    "in_distribution": [True] * 6,
    "outliers": [False] * 6,
    "one outlier": [True] * 5 + [False],
}
compositions = pytest.mark.parametrize("in_distribution", COMPOSITIONS.values(), ids=list(COMPOSITIONS))


class TestOutlierExposure:
    # ln 2 = 0.693147, -ln 0.8 = 0.223144, -(ln 0.9 + ln 0.1) / 2 = 1.203973
    LABELS, ROWS = [0, -1, -1], [[0.8, 0.2], [0.5, 0.5], [0.9, 0.1]]

    def test_by_hand(self):
        loss = kls.OutlierExposure(weight=0.5)
        assert float(loss(self.LABELS, self.ROWS)) == pytest.approx(
            0.223144 + 0.5 * (0.693147 + 1.203973) / 2, abs=1e-6
        )

    def test_by_hand_per_sample(self):
        losses = numbers(kls.OutlierExposure(weight=0.5, reduction=None)(self.LABELS, self.ROWS))
        np.testing.assert_allclose(losses, [3 * 0.223144, 0.75 * 0.693147, 0.75 * 1.203973], atol=3e-6)

    def test_by_hand_with_sample_weights(self):
        value = float(kls.OutlierExposure(weight=0.5)(self.LABELS, self.ROWS, sample_weight=[2.0, 0.0, 1.0]))
        assert value == pytest.approx(2 * 0.223144 + 0.5 * 1.203973 / 2, abs=1e-6)

    @pytest.mark.usefixtures("float64")
    @settings(max_examples=8 if BACKEND == "jax" else 25)
    @given(
        in_distribution=st.lists(st.booleans(), min_size=6, max_size=6),
        gamma=st.floats(0.21, 1),
        weight=st.floats(0, 10),
        from_logits=st.booleans(),
        column=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def test_any_composition_is_the_sum_of_two_means(self, in_distribution, gamma, weight, from_logits, column, seed):
        logits, p, labels = composed(in_distribution, seed=seed)
        y_pred = logits if from_logits else p
        loss = kls.OutlierExposure(gamma, weight, from_logits, dtype="float64")
        found = float(loss(labels[:, None] if column else labels, y_pred))
        expected = float(two_means(labels, y_pred, weight, gamma, from_logits))
        assert found == pytest.approx(expected, rel=1e-11, abs=1e-12)

    @pytest.mark.usefixtures("float64")
    @compositions
    @pytest.mark.parametrize("gamma", [1, 0.8])
    def test_gradient_is_that_of_the_two_means(self, in_distribution, gamma):
        logits, _, labels = composed(in_distribution)
        loss = kls.OutlierExposure(gamma, weight=0.7, from_logits=True, dtype="float64")
        expected = gradient(lambda z: two_means(labels, z, 0.7, gamma), logits)
        np.testing.assert_allclose(gradient(lambda z: loss(labels, z), logits), expected, rtol=1e-10, atol=1e-14)

    def test_without_outliers_it_is_smoothed_cross_entropy(self):
        logits, _, labels = sample()
        expected = float(kls.SmoothedCE(0.9, from_logits=True)(labels, logits))
        assert float(kls.OutlierExposure(0.9, from_logits=True)(labels, logits)) == pytest.approx(expected, rel=1e-6)

    def test_without_id_samples_it_is_the_second_term(self):
        logits, p, _ = sample()
        expected = -0.5 * np.log(p).mean()
        found = kls.OutlierExposure(0.9, weight=0.5, from_logits=True)(np.full(6, -1), logits)
        assert float(found) == pytest.approx(expected, rel=1e-6)

    @compositions
    def test_compiled_it_is_the_same(self, in_distribution):
        logits, _, labels = composed(in_distribution)
        loss = kls.OutlierExposure(0.9, weight=0.5, from_logits=True)
        found = compiled(lambda y, z: loss(y, z))(labels.astype("int32"), logits.astype("float32"))
        assert float(found) == pytest.approx(float(loss(labels, logits)), rel=1e-6)

    def test_logits_of_minus_infinity_where_they_do_not_count(self):
        # another class of an ID sample without smoothing, and an outlier without weight
        logits = np.array([[1, 2, -np.inf], [-np.inf, 0, 0]], "float32")
        loss = kls.OutlierExposure(weight=0, from_logits=True)
        assert float(loss([0, -1], logits)) == pytest.approx(np.log(1 + np.e), rel=1e-6)
        assert np.isfinite(gradient(lambda z: loss(np.array([0, -1]), z), logits)).all()

    @pytest.mark.parametrize("wrong", [-2, 5, 0.5, float("nan")])
    def test_another_label_is_refused_when_eager(self, wrong):
        logits, _, _ = sample(n=3)
        with pytest.raises(ValueError, match=rf"0\.\.4, or -1 for an outlier.*\[{wrong}"):
            kls.OutlierExposure(from_logits=True)(np.array([0, wrong, -1], "float32"), logits)

    def test_distributions_are_refused_with_both_shapes(self):
        with pytest.raises(ValueError, match=r"-1 for an outlier.*y_true\.shape=\(6, 5\), y_pred\.shape=\(6, 5\)"):
            kls.OutlierExposure()(np.eye(6, 5), np.full((6, 5), 0.2))

    def test_gamma_is_above_one_in_k(self):
        with pytest.raises(ValueError, match=r"gamma=0\.1 with K=10"):
            kls.OutlierExposure(gamma=0.1)(np.zeros(2), np.full((2, 10), 0.1))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the strategy is TensorFlow's")
class TestOutlierExposureOnTwoReplicas:
    def test_one_step_of_fit_is_that_of_one_replica(self):
        x = np.random.default_rng(1).normal(size=(8, 4)).astype("float32")
        # the first half of the batch, one replica's, holds all outliers, most of them or none
        batches = [-1, -1, -1, -1, 0, 1, 2, 0], [-1, 2, -1, -1, 0, -1, 2, 0], [0, 1, 2, 0, 1, 2, -1, 0]
        weights = [np.random.default_rng(0).normal(size=(4, 3)), np.zeros(3)]

        def steps():
            model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
            model.compile(keras.optimizers.SGD(0.5), kls.OutlierExposure(0.9, from_logits=True))
            for labels in batches:
                model.set_weights(weights)
                history = model.fit(x, np.array(labels), batch_size=8, shuffle=False, verbose=0).history
                yield [*model.get_weights(), history["loss"][0]]

        with mirrored_strategy().scope():
            found = list(steps())
        for values, expected in zip(found, steps(), strict=True):
            for value, other in zip(values, expected, strict=True):
                np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("split", [5, 8])
    def test_replicas_of_unequal_batches_sum_to_the_formula(self, split):
        import tensorflow as tf

        logits, _, labels = composed([False, True, False, False, True, True, False, True], seed=3)
        loss, strategy = kls.OutlierExposure(0.8, 0.7, from_logits=True), mirrored_strategy()
        parts = iter([(labels[:split], logits[:split]), (labels[split:], logits[split:])])
        given = strategy.experimental_distribute_values_from_function(
            lambda _: tuple(tf.constant(array, "float32") for array in next(parts))
        )

        def value_and_gradient(part):
            with tf.GradientTape() as tape:
                tape.watch(part[1])
                value = loss(*part)
            return value, tape.gradient(value, part[1])

        values, gradients = tf.function(lambda part: strategy.run(value_and_gradient, (part,)))(given)
        found = np.concatenate([part.numpy() for part in strategy.experimental_local_results(gradients)])
        expected = gradient(lambda z: two_means(labels, z, 0.7, 0.8), logits)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        total = sum(value.numpy() for value in strategy.experimental_local_results(values))
        assert total == pytest.approx(float(two_means(labels, logits, 0.7, 0.8)), rel=1e-5)
