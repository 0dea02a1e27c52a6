import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops
from scipy import special

from kls.calibration import samples
from kls.calibration.samples import as_indices, as_matrix, as_weights, log_softmax, per_sample, softmax

pytestmark = pytest.mark.filterwarnings("error")

FIELDS = ("confidence", "correct", "uncertainty", "nll", "brier")


class TestAsMatrix:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_float32_and_float64_are_not_copied(self, dtype):
        values = np.zeros((2, 3), dtype)
        assert as_matrix(values, "logits") is values

    @pytest.mark.parametrize(
        ("dtype", "expected"),
        [
            ("float16", "float32"),
            (ml_dtypes.bfloat16, "float32"),
            ("int8", "float32"),
            ("bool", "float32"),
            ("int32", "float64"),
            ("int64", "float64"),
            ("longdouble", "float64"),
            (">f4", "float64"),
            (">f8", "float64"),
        ],
    )
    def test_others_become_what_holds_them(self, dtype, expected):
        values = np.array([[0, 1], [1, 0]]).astype(dtype)
        matrix = as_matrix(values, "logits")
        assert matrix.dtype in (np.float32, np.float64)
        assert matrix.dtype.itemsize >= np.dtype(expected).itemsize or np.dtype(dtype) == np.dtype(">f4")
        assert matrix.tolist() == [[0, 1], [1, 0]]

    def test_a_tensor_of_the_backend_is_taken(self):
        assert as_matrix(ops.convert_to_tensor([[0.25, 0.75]]), "logits").tolist() == [[0.25, 0.75]]

    @pytest.mark.parametrize("shape", [(), (3,), (0, 3), (3, 0), (3, 1), (1, 1), (2, 2, 2)])
    def test_other_shapes_are_refused(self, shape):
        with pytest.raises(ValueError, match=r"`scores` must be of shape \(N, K\) with N >= 1 .* K >= 2") as error:
            as_matrix(np.zeros(shape), "scores")
        assert f"Received: shape {shape}" in str(error.value)
        assert ("[1 - p, p]" in str(error.value)) == (shape[1:] == (1,))


class TestAsIndices:
    @pytest.mark.parametrize(
        "labels",
        [
            [2, 0],
            (2, 0),
            [2.0, 0.0],
            [[2], [0]],
            [[0, 0, 1], [1, 0, 0]],
            [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]],
            np.array([2, 0], np.uint8),
            np.array([2, 0], ml_dtypes.bfloat16),
            np.array([[False, False, True], [True, False, False]]),
        ],
    )
    def test_each_form(self, labels):
        found = as_indices(labels, 2, 3)
        assert found.tolist() == [2, 0]
        assert found.dtype == np.int64

    def test_booleans_are_the_classes_of_two(self):
        assert as_indices([True, False], 2, 2).tolist() == [1, 0]

    def test_as_many_samples_as_classes_are_no_one_hot_row(self):
        assert as_indices([2, 0, 1], 3, 3).tolist() == [2, 0, 1]
        assert as_indices([1], 1, 2).tolist() == [1]
        assert as_indices([[0, 1]], 1, 2).tolist() == [1]

    @pytest.mark.parametrize("row", [[1, 1, 0], [0, 0, 0], [0.5, 0.5, 0], [2, -1, 0], [math.nan, 1, 0], [0, 2, 0]])
    def test_the_first_row_that_is_not_one_hot_is_named(self, row):
        with pytest.raises(ValueError, match=rf"`y_true` .*must be one-hot, .* Received: y_true\[1\]=.*{row[0]}"):
            as_indices([[1, 0, 0], row, [1, 1, 1]], 3, 3)

    @pytest.mark.parametrize("wrong", [-1, 3, 2.5, -0.5, math.nan, math.inf, -math.inf])
    def test_the_first_wrong_label_is_named(self, wrong):
        with pytest.raises(
            ValueError, match=rf"`y_true` must hold whole numbers in 0\.\.2\. Received: y_true\[2\]={wrong}"
        ):
            as_indices([0, 1, wrong, -7], 4, 3)


class TestAsWeights:
    def test_ones_by_default(self):
        assert as_weights(None, 3).tolist() == [1.0, 1.0, 1.0]

    @pytest.mark.parametrize("weights", [[1, 2, 0], [True, False, True], np.ones((4, 3), "float32"), [[0, 0, 1e-9]]])
    def test_become_float64(self, weights):
        found = as_weights(weights, 3)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, np.asarray(weights, float))

    @pytest.mark.parametrize("shape", [(), (2,), (3, 1), (1, 2), (2, 2, 3)])
    def test_other_shapes_are_refused(self, shape):
        with pytest.raises(ValueError, match=r"`sample_weight` must be of shape \(3,\), or \(R, 3\)") as error:
            as_weights(np.ones(shape), 3)
        assert f"Received: shape {shape}" in str(error.value)

    @pytest.mark.parametrize(
        "weights", [[1, -1e-9, 1], [math.nan] * 3, [1, math.inf, 1], [0, 0, 0], [[1, 0, 0], [0, 0, 0]]]
    )
    def test_other_numbers_are_refused(self, weights):
        with pytest.raises(ValueError, match="`sample_weight` must hold finite numbers of at least 0"):
            as_weights(weights, 3)


class TestPerSample:
    def test_by_hand(self):
        found = per_sample([0, 2], [[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]])
        np.testing.assert_array_equal(found.confidence, [0.7, 0.5])
        np.testing.assert_array_equal(found.correct, [True, False])
        entropy = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))
        np.testing.assert_allclose(found.uncertainty, np.array([entropy, math.log(2)]) / math.log(3), rtol=1e-14)
        np.testing.assert_allclose(found.nll, [-math.log(0.7), math.inf], rtol=1e-14)
        np.testing.assert_allclose(found.brier, [0.14, 1.5], rtol=1e-14)

    @settings(max_examples=50)
    @given(
        logits=arrays(np.float64, (4, 3), elements=st.floats(-50, 50, width=32)),
        labels=arrays(np.int64, 4, elements=st.integers(0, 2)),
    )
    def test_logits_against_scipy(self, logits, labels):
        found = per_sample(labels, logits, from_logits=True)
        p = special.softmax(logits, axis=1)
        np.testing.assert_allclose(found.confidence, p.max(axis=1), rtol=1e-13)
        np.testing.assert_array_equal(found.correct, logits.argmax(axis=1) == labels)
        np.testing.assert_allclose(found.uncertainty, special.entr(p).sum(axis=1) / math.log(3), atol=1e-14)
        np.testing.assert_allclose(found.nll, -special.log_softmax(logits, axis=1)[range(4), labels], atol=1e-14)
        np.testing.assert_allclose(found.brier, ((p - np.eye(3)[labels]) ** 2).sum(axis=1), atol=1e-14)

    @pytest.mark.parametrize("from_logits", [True, False])
    def test_confidence_and_uncertainty_are_in_the_precision_of_the_input(self, from_logits):
        for dtype in ("float32", "float64"):
            found = per_sample([0], np.array([[0.75, 0.25]], dtype), from_logits)
            assert found.confidence.dtype == found.uncertainty.dtype == dtype
            assert found.nll.dtype == found.brier.dtype == np.float64

    @pytest.mark.parametrize("rows", [1, 4, 5, 10, 11])
    @pytest.mark.parametrize("from_logits", [True, False])
    def test_pieces_make_the_whole(self, rows, from_logits, monkeypatch):
        rng = np.random.default_rng(0)
        values = rng.normal(size=(10, 3))
        values = values if from_logits else softmax(values)
        labels = rng.integers(3, size=10)
        whole = per_sample(labels, values, from_logits)
        monkeypatch.setattr(samples, "CHUNK", 3 * rows)
        for field in FIELDS:
            np.testing.assert_array_equal(
                getattr(per_sample(labels, values, from_logits), field), getattr(whole, field)
            )

    def test_more_classes_than_numbers_at_once(self, monkeypatch):
        monkeypatch.setattr(samples, "CHUNK", 2)
        assert per_sample([0, 1, 2], np.eye(3)).correct.all()

    @pytest.mark.parametrize("k", [2, 3, 10, 1000])
    def test_equal_logits_are_the_largest_uncertainty(self, k):
        found = per_sample([k - 1], np.full((1, k), 123.0), from_logits=True)
        assert found.uncertainty[0] == pytest.approx(1, abs=1e-15)
        assert found.confidence[0] == 1 / k
        assert not found.correct[0]

    def test_near_certainty_rounds_to_nothing_below_zero(self):
        logits = np.stack([np.linspace(5, 60, 5000), np.zeros(5000)], axis=1)
        found = per_sample(logits.argmax(axis=1), logits, from_logits=True)
        assert (found.brier >= 0).all()
        assert (found.nll >= 0).all()
        assert (found.uncertainty >= 0).all()

    def test_probabilities_may_be_off_by_a_hundredth_and_no_more(self):
        per_sample([0], [[0.5, 0.509]])
        per_sample([0], [[0.5, 0.491]])
        for row in ([0.5, 0.511], [0.5, 0.489]):
            with pytest.raises(ValueError, match="`probabilities` must sum to 1"):
                per_sample([0], [row])

    @pytest.mark.parametrize(
        ("row", "received"),
        [
            ([0.5, math.nan], "nan"),
            ([0.5, math.inf], "inf"),
            ([math.inf, -math.inf], "nan"),
            ([1.5, -0.5], "-0.5"),
            ([2.0, -1.0], "-1"),
            ([0.5, 0.4], "0.9"),
            ([0.5, 0.55], "1.05"),
            ([0.0, 0.0], "0"),
        ],
    )
    def test_what_is_no_probability_is_told_of_from_logits(self, row, received):
        rule = rf"`probabilities` must .*from_logits=True.* Received: row 1 with {received}"
        with pytest.raises(ValueError, match=rule):
            per_sample([0, 1], [[0.5, 0.5], row])

    @pytest.mark.parametrize(
        ("row", "received"),
        [
            ([0.5, math.nan], "nan"),
            ([0.5, math.inf], "inf"),
            ([math.inf, math.inf], "inf"),
            ([math.inf, -math.inf], "inf"),
            ([-math.inf, -math.inf], "-inf"),
        ],
    )
    def test_what_is_no_logit_is_named(self, row, received):
        with pytest.raises(ValueError, match=rf"`logits` must .*infinity.*finite. Received: row 1 with {received}"):
            per_sample([0, 1], [[0.5, 0.5], row], from_logits=True)

    def test_the_row_is_that_of_the_whole_set(self, monkeypatch):
        monkeypatch.setattr(samples, "CHUNK", 4)
        p = np.full((9, 2), 0.5)
        p[7] = 0.6
        with pytest.raises(ValueError, match=r"`probabilities` must sum to 1 .* Received: row 7 with 1.2"):
            per_sample([0] * 9, p)

    def test_the_smallest_negative_probability_is_refused(self):
        with pytest.raises(ValueError, match=r"`probabilities` must not be negative .*row 0 with -1e-12"):
            per_sample([0], [[1.0, -1e-12]])


class TestSoftmax:
    @settings(max_examples=30)
    @given(logits=arrays(np.float64, (3, 4), elements=st.floats(-1e5, 1e5)))
    def test_against_scipy(self, logits):
        np.testing.assert_allclose(softmax(logits), special.softmax(logits, axis=1), rtol=1e-13, atol=1e-300)
        np.testing.assert_allclose(log_softmax(logits), special.log_softmax(logits, axis=1), rtol=1e-13, atol=1e-13)

    @pytest.mark.parametrize("dtype", ["float16", "float32", "int32"])
    def test_is_float64_and_leaves_its_argument_alone(self, dtype):
        logits = np.array([[1, 2], [0, 0]], dtype)
        assert softmax(logits).dtype == log_softmax(logits).dtype == np.float64
        assert logits.tolist() == [[1, 2], [0, 0]]

    def test_minus_infinity_is_zero(self):
        logits = [[0.0, -math.inf, 0.0]]
        assert softmax(logits).tolist() == [[0.5, 0.0, 0.5]]
        assert log_softmax(logits)[0, 1] == -math.inf
