import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from kls.ood.scores import (
    normalize_logits,
)

from .given import LOGITS

ROWS = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.integers(-999, 999))
ORDERS = [1, 1.5, 2, 3, np.inf]


def told_apart(logits):
    """Leaves out cases with a row of equal logits."""
    assume((np.ptp(logits, axis=1) > 0).all())
    return logits


class TestNormalizeLogits:
    @pytest.mark.parametrize("p", ORDERS)
    @settings(max_examples=20)
    @given(ROWS.map(lambda rows: rows / 7))
    def test_mean_0_and_norm_1(self, p, logits):
        found = normalize_logits(told_apart(logits), p)
        assert (found.dtype, found.shape) == (np.float64, logits.shape)
        np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-12)
        sizes = np.abs(found)
        norms = sizes.max(axis=1) if p == np.inf else (sizes**p).sum(axis=1) ** (1 / p)
        np.testing.assert_allclose(norms, 1, rtol=1e-12)

    @settings(max_examples=50)
    @given(ROWS, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.sampled_from(ORDERS))
    def test_a_shift_and_a_positive_factor_change_nothing(self, logits, shift, factor, p):
        expected = normalize_logits(told_apart(logits), p)
        np.testing.assert_allclose(normalize_logits(logits * factor + shift, p), expected, atol=1e-8)
        each = np.linspace(0.5, 2, len(logits))[:, None]
        np.testing.assert_allclose(normalize_logits(logits * each - 3 * each, p), expected, atol=1e-12)

    @settings(max_examples=50)
    @given(ROWS, st.sampled_from(ORDERS))
    def test_order_and_likeliest_class_stay(self, logits, p):
        found = normalize_logits(logits, p)
        np.testing.assert_array_equal(found.argmax(axis=1), logits.argmax(axis=1))
        np.testing.assert_array_equal(np.argsort(found, kind="stable"), np.argsort(logits, kind="stable"))

    @pytest.mark.parametrize(
        ("p", "expected"), [(1, [-0.5, 0.5, 0.0]), (2, [-(0.5**0.5), 0.5**0.5, 0.0]), (np.inf, [-1.0, 1.0, 0.0])]
    )
    def test_by_hand(self, p, expected):
        np.testing.assert_allclose(
            normalize_logits([[1.0, 5.0, 3.0], [-2.0, 0.0, -1.0]], p), [expected] * 2, atol=1e-15
        )

    def test_2_is_the_default(self):
        np.testing.assert_array_equal(normalize_logits(LOGITS), normalize_logits(LOGITS, 2))

    @pytest.mark.parametrize("p", ORDERS)
    @settings(max_examples=20)
    @given(value=st.floats(-1e30, 1e30), classes=st.integers(2, 9))
    def test_equal_logits_become_0(self, p, value, classes):
        assert not normalize_logits(np.full((1, classes), value), p).any()

    def test_a_row_of_equal_logits_leaves_the_others_alone(self):
        found = normalize_logits([[0.1, 0.1, 0.1], [0.0, 1.0, 2.0]], np.inf)
        assert found.tolist() == [[0, 0, 0], [-1, 0, 1]]

    @pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
    def test_neither_tiny_nor_huge_logits_are_lost(self, scale):
        np.testing.assert_allclose(normalize_logits(np.array([[0.0, 1.0, 5.0]]) * scale), normalize_logits([[0, 1, 5]]))

    def test_float32_logits_are_taken_as_they_are(self):
        logits = LOGITS.astype("float32")
        np.testing.assert_array_equal(normalize_logits(logits), normalize_logits(logits.astype("float64")))

    def test_the_logits_stay_as_they_are(self):
        logits = LOGITS.copy()
        normalize_logits(logits)
        np.testing.assert_array_equal(logits, LOGITS)
