import decimal

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy.special import xlog1py

import kls

from .helpers import BACKEND, gradient, numbers, sample


def focal_std(p, labels, k, std_weight):
    """Returns equations 3 and 4 of Song by SciPy and NumPy, sample by sample."""
    rows = []
    for row, label in zip(p, labels, strict=True):
        wrong_scores = np.delete(row, label)
        uneven = np.std(row) if row.argmax() != label else 0.0
        rows.append(-np.log(row[label]) - k * xlog1py(wrong_scores, -wrong_scores).sum() + std_weight * uneven)
    return np.array(rows)


def exact_focal_std(logits, label, k, std_weight):
    """Returns the loss of one sample in 150 decimal digits."""
    exponentials = [logit.exp() for logit in logits]
    p = [x / sum(exponentials) for x in exponentials]
    focal = -p[label].ln() - k * sum(x * (1 - x).ln() for i, x in enumerate(p) if i != label)
    if p.index(max(p)) == label:
        return focal
    mean = sum(p) / len(p)
    return focal + std_weight * (sum((x - mean) ** 2 for x in p) / len(p)).sqrt()


def exact_value_and_gradient(logits, label, k, std_weight):
    """Returns the loss of one sample and its central differences in 150 decimal digits, rounded to floats."""
    with decimal.localcontext(prec=150):
        logits = [decimal.Decimal(float(logit)) for logit in logits]
        k, std_weight, step = decimal.Decimal(k), decimal.Decimal(std_weight), decimal.Decimal("1e-30")

        def shifted(i, shift):
            return exact_focal_std([*logits[:i], logits[i] + shift, *logits[i + 1 :]], label, k, std_weight)

        differences = [float((shifted(i, step) - shifted(i, -step)) / (2 * step)) for i in range(len(logits))]
        return float(exact_focal_std(logits, label, k, std_weight)), differences


class TestValue:
    # t = 0, predicted 1: -ln 0.2 = 1.609438; -(0.7 ln 0.3 + 0.1 ln 0.9) = 0.842781 + 0.010536 = 0.853317; the
    # deviations from 1/3 are -2/15, 11/30 and -7/30, so std = sqrt(0.068889) = 0.262467
    WRONG = 0.2, 0.7, 0.1
    # t = 0, predicted 0: -ln 0.6 = 0.510826; -(0.3 ln 0.7 + 0.1 ln 0.9) = 0.107002 + 0.010536 = 0.117539
    RIGHT = 0.6, 0.3, 0.1

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("from_logits", [True, False])
    @pytest.mark.parametrize(
        ("arguments", "wrong", "right"),
        [
            ({}, 1.609438 + 0.853317 + 0.262467, 0.510826 + 0.117539),
            ({"as_printed": True}, 1.609438 + 0.853317 - 0.262467, 0.510826 + 0.117539),
            ({"k": 0.5, "std_weight": 0}, 1.609438 + 0.5 * 0.853317, 0.510826 + 0.5 * 0.117539),
            ({"k": 0, "std_weight": 5}, 1.609438 + 5 * 0.262467, 0.510826),
            ({"k": 0, "std_weight": 5, "as_printed": True}, 1.609438 - 5 * 0.262467, 0.510826),
        ],
    )
    def test_by_hand(self, arguments, wrong, right, from_logits):
        loss = kls.FocalStd(**arguments, from_logits=from_logits, reduction=None)
        rows = np.array([self.WRONG, self.RIGHT])
        losses = numbers(loss([0, 0], np.log(rows) if from_logits else rows))
        np.testing.assert_allclose(losses, [wrong, right], atol=5e-6)

    @pytest.mark.usefixtures("float64")
    def test_mixed_labels_by_hand(self):
        # mostly the first class: -(0.6 ln 0.2 + 0.4 ln 0.7) = 1.108333 and
        # -(0.4 * 0.2 ln 0.8 + 0.6 * 0.7 ln 0.3 + 0.1 ln 0.9) = 0.017852 + 0.505669 + 0.010536 = 0.534056;
        # mostly the second, which is predicted: -(0.4 ln 0.2 + 0.6 ln 0.7) = 0.857780 and
        # -(0.6 * 0.2 ln 0.8 + 0.4 * 0.7 ln 0.3 + 0.1 ln 0.9) = 0.026777 + 0.337113 + 0.010536 = 0.374426
        loss = kls.FocalStd(2, 0.5, reduction=None)
        losses = numbers(loss([[0.6, 0.4, 0.0], [0.4, 0.6, 0.0]], [self.WRONG, self.WRONG]))
        expected = [1.108333 + 2 * 0.534056 + 0.5 * 0.262467, 0.857780 + 2 * 0.374426]
        np.testing.assert_allclose(losses, expected, atol=5e-6)

    @pytest.mark.usefixtures("float64")
    @settings(max_examples=8 if BACKEND == "jax" else 15)
    @given(
        k=st.floats(0, 5),
        std_weight=st.floats(0, 5),
        from_logits=st.booleans(),
        form=st.sampled_from(["row", "column", "one-hot"]),
        seed=st.integers(0, 1000),
    )
    def test_equals_scipy_and_numpy(self, k, std_weight, from_logits, form, seed):
        logits, p, labels = sample(seed=seed)
        y_true = {"row": labels, "column": labels[:, None], "one-hot": np.eye(5)[labels]}[form]
        loss = kls.FocalStd(k, std_weight, from_logits, reduction=None)
        found = numbers(loss(y_true, logits if from_logits else p))
        tolerance = 1e-9 if from_logits else 1e-5  # probabilities are clipped at 1e-7
        np.testing.assert_allclose(found, focal_std(p, labels, k, std_weight), rtol=tolerance, atol=tolerance)

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("from_logits", [True, False])
    def test_without_its_weights_it_is_cross_entropy(self, from_logits):
        logits, p, labels = sample()
        y_pred, loss = logits if from_logits else p, kls.FocalStd(0, 0, from_logits, reduction=None)
        sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits, reduction=None)
        np.testing.assert_allclose(numbers(loss(labels, y_pred)), numbers(sparse(labels, y_pred)), rtol=1e-13)
        one_hot = np.eye(5)[labels]
        dense = keras.losses.CategoricalCrossentropy(from_logits=from_logits, reduction=None)
        np.testing.assert_allclose(numbers(loss(one_hot, y_pred)), numbers(dense(one_hot, y_pred)), rtol=1e-13)

    @pytest.mark.usefixtures("float64")
    def test_probabilities_of_zero_and_one_are_clipped(self):
        losses = numbers(kls.FocalStd(reduction=None)([0, 1], [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
        np.testing.assert_allclose(losses, [-2 * np.log(1e-7) + np.std([0, 1, 0]), 0], atol=1e-6)

    def test_predictions_in_half_precision_are_computed_in_full(self):
        logits, _, labels = sample()
        half = ops.cast(logits, "bfloat16")
        loss = kls.FocalStd(from_logits=True)
        assert float(loss(labels, half)) == float(loss(labels, ops.cast(half, "float32")))


class TestGradient:
    MODERATE_AND_SATURATED = (
        (0.5, -1.25, 2, 0.25, 1),
        (0, 40, 80, 0, 1),
        (0, 0, 40, 0, 0),
        (80, 0, 40, 0, -3),
        (0, 20, 19, 1, 2),
        (-100, 200, 99, 0, 3),
    )

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_value_and_gradient_are_exact_also_at_saturated_logits(self, dtype):
        logits = np.array(self.MODERATE_AND_SATURATED, dtype)
        loss = kls.FocalStd(0.5, 2.0, from_logits=True, reduction=None, dtype=dtype)
        precision = 50 * np.finfo(dtype).eps
        for label in range(3):
            values, gradients = zip(*(exact_value_and_gradient(row, label, 0.5, 2.0) for row in logits), strict=True)
            labels = np.full(6, label)
            for y_true in (labels, np.eye(5)[labels]):
                np.testing.assert_allclose(numbers(loss(y_true, logits)), values, rtol=precision, atol=precision)
                found = gradient(lambda z, y=y_true: ops.sum(loss(y, z)), logits)
                np.testing.assert_allclose(found, gradients, rtol=precision, atol=precision)

    @pytest.mark.parametrize("from_logits", [True, False])
    def test_is_finite_at_huge_and_infinitely_low_logits(self, from_logits):
        huge = [[1e4, -1e4, 0, 0, 0], [-1e4, 1e4, 0, 1, 2], [0, -1e4, 1e4, 0, -3e4]]
        infinite = [[-np.inf, 0, -np.inf, -np.inf, -np.inf], [2, 1, -np.inf, 0, 1], [-np.inf, 1, 2, -np.inf, 0]]
        logits = np.array(huge + infinite, "float32")
        loss = kls.FocalStd(from_logits=from_logits)

        def value(z):
            return loss(np.ones(6), z if from_logits else ops.softmax(z))

        assert np.isfinite(float(value(ops.convert_to_tensor(logits))))
        assert np.isfinite(gradient(value, logits)).all()

    def test_of_the_deviation_is_zero_at_the_uniform_distribution(self):
        logits, labels = np.full((6, 5), 0.3, "float32"), np.full(6, 4)  # TensorFlow's `exp` rounds the last ones apart
        without, found = (
            gradient(lambda z, w=weight: kls.FocalStd(1, w, from_logits=True)(labels, z), logits) for weight in (0, 5)
        )
        np.testing.assert_allclose(found, without, atol=1e-6)

    @pytest.mark.parametrize(("as_printed", "direction"), [(False, -1), (True, 1)])
    def test_a_step_evens_wrong_scores_unless_as_printed(self, as_printed, direction):
        logits, p, _ = sample()
        labels = p.argmin(axis=1)
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        loss = kls.FocalStd(0, 1, from_logits=True, as_printed=as_printed)
        step = gradient(lambda z: loss(labels, z) - cross_entropy(labels, z), logits.astype("float32"))
        after = numbers(ops.softmax(logits - 0.1 * step))
        assert (np.sign(after.std(axis=1) - p.std(axis=1)) == direction).all()

    def test_right_predictions_do_not_know_the_deviation(self):
        logits, p, _ = sample()
        labels, logits = p.argmax(axis=1), logits.astype("float32")
        loss, without = kls.FocalStd(1, 5, from_logits=True), kls.FocalStd(1, 0, from_logits=True)
        assert float(loss(labels, logits)) == float(without(labels, logits))
        np.testing.assert_array_equal(
            gradient(lambda z: loss(labels, z), logits), gradient(lambda z: without(labels, z), logits)
        )

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras keeps a softmax layer's logits on TensorFlow alone")
    def test_of_a_saturated_softmax_layer_does_not_vanish(self):
        logits = np.array([[60.0, 0.0, 0.0]], "float32")
        value, exact = exact_value_and_gradient(logits[0], 1, 1, 1)
        found = gradient(lambda z: kls.FocalStd()(np.array([1]), keras.activations.softmax(z)), logits)
        np.testing.assert_allclose(found, [exact], atol=1e-5)
        assert float(kls.FocalStd()([1], keras.activations.softmax(ops.convert_to_tensor(logits)))) == pytest.approx(
            value, rel=1e-6
        )
