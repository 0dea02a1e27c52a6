import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.isotonic import IsotonicRegression

from kls.calibration import HistogramBinning, IsotonicScaling

from .helpers import simulated


class TestIsotonic:
    def test_by_hand(self):
        # p of class 1: 0.1, 0.2, 0.3 with outcomes 0, 1, 0 are pooled but for the first: 0, 1/2, 1/2; then 0.9 with 1
        p = np.array([0.1, 0.2, 0.3, 0.9])
        logits = np.log(np.stack([1 - p, p], axis=1))
        scaling = IsotonicScaling().fit(logits, [0, 1, 0, 1])
        found = softmax(scaling.transform(logits), axis=1)[:, 1]
        np.testing.assert_allclose(found, [0, 0.5, 0.5, 1], atol=1e-12)
        between = np.log([[0.4, 0.6], [0.95, 0.05], [0.01, 0.99]])  # half-way, and beyond the ends
        np.testing.assert_allclose(softmax(scaling.transform(between), axis=1)[:, 1], [0.75, 0, 1], atol=1e-9)

    def test_is_scikit_learn_one_class_against_the_rest(self):
        logits, labels = simulated(200, 4)
        other, _ = simulated(50, 4, seed=9)
        p, p_other = softmax(logits, axis=1), softmax(other, axis=1)
        columns = []
        for k in range(4):
            regression = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p[:, k], labels == k)
            columns.append(regression.predict(p_other[:, k]))
        expected = np.stack(columns, axis=1)
        expected /= expected.sum(axis=1, keepdims=True)
        found = softmax(IsotonicScaling().fit(logits, labels).transform(other), axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-12)

    @settings(max_examples=20)
    @given(st.integers(0, 1000))
    def test_of_two_classes_is_monotone(self, seed):
        logits, labels = simulated(30, 2, seed=seed)
        grid = np.stack([np.zeros(200), np.linspace(-15, 15, 200)], axis=1)
        found = softmax(IsotonicScaling().fit(logits, labels).transform(grid), axis=1)[:, 1]
        assert (np.diff(found) >= -1e-12).all()

    def test_where_no_class_is_left_each_gets_its_share(self):
        # each class is never seen below a probability of 0.6, so that all four regressions are 0 at 1/4
        p = np.array([[0.6, 0.4, 0, 0], [0, 0.6, 0.4, 0], [0, 0, 0.6, 0.4], [0.4, 0, 0, 0.6]])
        scaling = IsotonicScaling().fit(np.log(np.maximum(p, 1e-30)), [0, 1, 2, 3])
        np.testing.assert_allclose(softmax(scaling.transform(np.zeros((2, 4))), axis=1), 0.25, atol=1e-12)


class TestHistogram:
    def test_by_hand(self):
        # of class 0: two of three right in (1/2, 1], one of one in (0, 1/2]; of class 1 one of three, none of one
        p = np.array([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.1, 0.9]])
        scaling = HistogramBinning(2).fit(np.log(p), [0, 0, 1, 0])
        np.testing.assert_allclose(scaling.shares, [[1, 2 / 3], [1 / 3, 0]])
        found = softmax(scaling.transform(np.log([[0.9, 0.1], [0.2, 0.8]])), axis=1)
        np.testing.assert_allclose(found, [[2 / 3, 1 / 3], [1, 0]], atol=1e-12)

    def test_bins_are_closed_above_and_an_empty_one_keeps_its_centre(self):
        scaling = HistogramBinning(4).fit([[0.0, 0.0]], [1])  # 1/2 is in (1/4, 1/2]
        np.testing.assert_allclose(scaling.shares, [[0.125, 0, 0.625, 0.875], [0.125, 1, 0.625, 0.875]])

    @pytest.mark.parametrize("bins", [1, 7, 15])
    def test_against_counting_one_by_one(self, bins):
        logits, labels = simulated(100, 3, seed=2)
        other = simulated(40, 3, seed=3)[0]
        scaling = HistogramBinning(bins).fit(logits, labels)
        p, p_other = softmax(logits, axis=1), softmax(other, axis=1)
        expected = np.empty((40, 3))
        for n in range(40):
            for k in range(3):
                place = np.ceil(p_other[n, k] * bins)
                members = np.ceil(p[:, k] * bins) == place
                expected[n, k] = (labels[members] == k).mean() if members.any() else (place - 0.5) / bins
        expected = np.where(expected.sum(axis=1, keepdims=True) > 0, expected, 1)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(softmax(scaling.transform(other), axis=1), expected, atol=1e-12)

    def test_where_no_class_is_left_each_gets_its_share(self):
        # a confidence of 0.6 and one of 0.4 were always another class's
        p = np.array([[0.6, 0.4, 0], [0, 0.6, 0.4], [0.4, 0, 0.6]])
        scaling = HistogramBinning(4).fit(np.log(np.maximum(p, 1e-30)), [2, 0, 1])
        np.testing.assert_allclose(
            softmax(scaling.transform(np.log([[0.55, 0.4, 0.05]])), axis=1)[0, :2], 0, atol=1e-12
        )
        np.testing.assert_allclose(softmax(scaling.transform(np.log([[0.4, 0.3, 0.3]])), axis=1), 1 / 3, atol=1e-12)
