"""What holds of every metric, whatever it measures: invariances, precision, corners."""

import inspect
import math
from functools import partial

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kls.calibration import (
    METRICS,
    classwise_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
    summarize,
)

from .helpers import close, logit_predictions, predictions, sample, some

pytestmark = pytest.mark.filterwarnings("error")

VARIANTS = METRICS | {
    "ece of equal mass": partial(expected_calibration_error, bins=3, binning="mass"),
    "rmsce of equal mass": partial(expected_calibration_error, bins=4, binning="mass", norm=2),
    "mce of equal mass": partial(maximum_calibration_error, bins=5, binning="mass"),
    "ece like netcal": partial(expected_calibration_error, bins=10, convention="netcal"),
    "ece like torchmetrics": partial(expected_calibration_error, bins=10, convention="torchmetrics"),
    "debiased of equal width": partial(debiased_calibration_error, bins=5, binning="width"),
    "classwise of equal mass": partial(classwise_calibration_error, bins=3, binning="mass"),
    "classwise above a threshold": partial(classwise_calibration_error, threshold=0.3),
    "classwise of equal mass above a threshold": partial(
        classwise_calibration_error, bins=2, binning="mass", threshold=0.3
    ),
}
HIGHEST = {"brier": 2, "nll": math.inf}


def repetitions(n, rows=()):
    weights = arrays(np.int64, (*rows, n), elements=st.integers(0, 3))
    return weights.filter(lambda drawn: (drawn.sum(axis=-1) > 0).all())


class TestInvariances:
    @some
    @given(drawn=predictions, data=st.data())
    def test_the_order_of_the_samples(self, drawn, data):
        labels, p = drawn
        order = np.array(data.draw(st.permutations(range(len(labels)))))
        for name, metric in VARIANTS.items():
            close(metric(labels[order], p[order]), metric(labels, p), name)

    @some
    @given(drawn=predictions, data=st.data())
    def test_a_whole_weight_is_so_many_samples(self, drawn, data):
        labels, p = drawn
        weights = data.draw(repetitions(len(labels)))
        for name, metric in VARIANTS.items():
            repeated = metric(labels.repeat(weights), p.repeat(weights, axis=0))
            close(metric(labels, p, sample_weight=weights), repeated, name)

    @some
    @given(drawn=predictions, data=st.data())
    def test_rows_of_weights_are_separate_calls(self, drawn, data):
        labels, p = drawn
        weights = data.draw(repetitions(len(labels), (data.draw(st.integers(1, 3)),)))
        for name, metric in VARIANTS.items():
            together = metric(labels, p, sample_weight=weights)
            assert together.shape == (len(weights),)
            close(together, [metric(labels, p, sample_weight=row) for row in weights], name)

    @some
    @given(drawn=predictions, copies=st.integers(2, 4), scale=st.sampled_from([1e-6, 0.3, 7.0, 1e9]))
    def test_duplicates_of_the_whole_set_and_the_scale_of_weights(self, drawn, copies, scale):
        labels, p = drawn
        for name, metric in VARIANTS.items():
            if "debiased" not in name:
                once = metric(labels, p)
                close(metric(np.tile(labels, copies), np.tile(p, (copies, 1))), once, name)
                close(metric(labels, p, sample_weight=np.full(len(labels), scale)), once, name)

    @some
    @given(drawn=logit_predictions)
    def test_logits_are_their_softmax(self, drawn):
        labels, logits = drawn
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        p = powers / powers.sum(axis=1, keepdims=True)
        for name, metric in VARIANTS.items():
            close(metric(labels, logits, from_logits=True), metric(labels, p), name)

    @some
    @given(drawn=logit_predictions, shift=st.sampled_from([-1e6, -3.0, 0.25, 700.0, 1e9]))
    def test_a_constant_added_to_logits(self, drawn, shift):
        labels, logits = drawn
        shifted = logits + shift * np.arange(1, len(labels) + 1)[:, None]
        for name, metric in VARIANTS.items():
            assert metric(labels, shifted, from_logits=True) == metric(labels, logits, from_logits=True), name

    @some
    @given(drawn=predictions, data=st.data())
    def test_the_names_of_the_classes(self, drawn, data):
        labels, p = drawn
        top = p == p.max(axis=1, keepdims=True)
        p = np.where(top & (top.cumsum(axis=1) > 1), p - 1 / 64, p)  # one likeliest class: the first of equals counts
        p = p / p.sum(axis=1, keepdims=True)
        order = np.array(data.draw(st.permutations(range(p.shape[1]))))
        for name, metric in VARIANTS.items():
            close(metric(np.argsort(order)[labels], p[:, order]), metric(labels, p), name)

    @some
    @given(drawn=predictions)
    def test_bounds_and_type(self, drawn):
        for name, metric in VARIANTS.items():
            value = metric(*drawn)
            assert type(value) is float, name
            assert 0 <= value <= HIGHEST.get(name, 1) * (1 + 1e-12), name

    def test_the_form_of_labels_and_predictions(self):
        labels, _, p = sample(n=40)
        forms = [labels.tolist(), labels[:, None], labels.astype(float), labels.astype(np.uint8), np.eye(5)[labels]]
        forms += [np.eye(5, dtype=bool)[labels], np.eye(5, dtype=int)[labels].tolist()]
        for name, metric in VARIANTS.items():
            expected = metric(labels, p)
            assert [metric(form, p) for form in forms] == [expected] * len(forms), name
            assert metric(labels, p.tolist()) == metric(labels, np.asfortranarray(p)) == expected, name

    @pytest.mark.parametrize("from_logits", [True, False])
    def test_arguments_stay_as_they_are(self, from_logits):
        labels, logits, p = sample(n=40)
        values = logits if from_logits else p
        weights = np.random.default_rng(1).integers(0, 3, (2, 40)).astype(float)
        for array in (labels, values, weights):
            array.flags.writeable = False
        for metric in VARIANTS.values():
            metric(labels, values, from_logits=from_logits, sample_weight=weights)


class TestPrecision:
    @pytest.mark.parametrize("from_logits", [True, False])
    @pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
    def test_half_precision_is_measured_as_its_float32(self, from_logits, dtype):
        labels, logits, p = sample(n=60)
        half = (logits if from_logits else p).astype(dtype)
        for name, metric in VARIANTS.items():
            expected = metric(labels, half.astype(np.float32), from_logits=from_logits)
            assert metric(labels, half, from_logits=from_logits) == expected, name

    @pytest.mark.parametrize("k", [10, 100, 1000])
    def test_rows_of_bfloat16_sum_to_one_well_enough(self, k):
        labels, _, p = sample(n=60, k=k)
        assert all(math.isfinite(metric(labels, p.astype(ml_dtypes.bfloat16))) for metric in VARIANTS.values())

    def test_float32_is_float64_up_to_its_rounding(self):
        labels, _, p = sample(n=60)
        for name, metric in VARIANTS.items():
            assert metric(labels, p.astype("float32")) == pytest.approx(metric(labels, p), abs=1e-6), name

    @pytest.mark.parametrize("name", ["accuracy", "brier", "brier_top", "nll", "aurc"])
    def test_float32_is_computed_with_in_float64(self, name):
        labels, _, p = sample(n=60, dtype="float32")
        close(METRICS[name](labels, p), METRICS[name](labels, p.astype("float64")))

    def test_float32_logits_fall_into_the_bins_of_their_probabilities(self):
        edges = np.array([[j / 20, 1 - j / 20] for j in range(1, 20)], "float32")
        logits = np.log(edges.astype("float64")).astype("float32")
        powers = np.exp(logits.astype("float64"))
        p = (powers / powers.sum(axis=1, keepdims=True)).astype("float32")
        assert (p == edges).sum() >= 19
        labels = np.arange(len(p)) % 2
        for name, metric in VARIANTS.items():
            options = {"bins": 20} if "bins" in inspect.signature(metric).parameters else {}
            found = metric(labels, logits, from_logits=True, **options)
            assert found == pytest.approx(metric(labels, p, **options), abs=1e-6), name

    def test_float32_falls_on_the_edge_that_it_means(self):
        # float32's 0.7 is below 0.7, its 0.6 above 0.6: (0.6, 0.7] holds 0.7 and 0.65, (0.5, 0.6] holds 0.6 and 0.55
        for top, below in [(0.7, 0.65), (0.6, 0.55)]:
            p = np.array([[top, 1 - top], [below, 1 - below]], "float32")
            expected = abs((top + below) / 2 - 0.5)
            assert maximum_calibration_error([0, 1], p, bins=10) == pytest.approx(expected, abs=1e-7)
            assert maximum_calibration_error([0, 1], p, bins=10, convention="netcal") > expected + 0.1

    @pytest.mark.parametrize("certainties", [[[1, 0], [0, 1]], [[True, False], [False, True]]])
    def test_certainty_may_be_whole_numbers(self, certainties):
        assert set(summarize([0, 1], certainties).values()) == {0.0, 1.0}

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("scale", [1e4, 1e30])
    def test_huge_logits_are_certainties_without_a_warning(self, dtype, scale):
        logits = scale * np.array([[1, -1, 0], [-1, 1, 0], [0, -1, 1]], dtype)
        for name, metric in VARIANTS.items():
            assert metric([0, 1, 2], logits, from_logits=True) == metric([0, 1, 2], np.eye(3)), name
            if name != "nll":
                assert metric([0, 0, 0], logits, from_logits=True) == metric([0, 0, 0], np.eye(3)), name

    def test_the_largest_logits_of_float64_do_not_overflow(self):
        largest = np.finfo(np.float64).max
        for name, metric in VARIANTS.items():
            found = metric([0, 1], [[largest, -largest], [-largest, largest]], from_logits=True)
            assert found == metric([0, 1], np.eye(2)), name

    @pytest.mark.parametrize("labels", [[0, 1, 0], [2, 1, 2], [1, 0, 2]])
    def test_a_logit_of_minus_infinity_is_a_probability_of_zero(self, labels):
        logits = np.array([[0.0, -math.inf, 1.0], [-math.inf, 2.0, -math.inf], [0.5, 0.5, -math.inf]])
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for name, metric in VARIANTS.items():
            close(metric(labels, logits, from_logits=True), metric(labels, p), name)


class TestCorners:
    @pytest.mark.parametrize("k", [2, 3, 10])
    def test_all_right_and_certain_is_zero(self, k):
        for name, metric in VARIANTS.items():
            assert metric(np.arange(k), np.eye(k)) == (1.0 if name == "accuracy" else 0.0), name

    @pytest.mark.parametrize(
        ("name", "all_wrong", "one_class"),
        [
            ("accuracy", 0, 1),
            ("ece", 1, 0.3),
            ("mce", 1, 0.3),
            ("rmsce", 1, 0.3),
            ("debiased", 1, 0.3),
            ("classwise", 2 / 3, (0.3 + 0.2 + 0.1) / 3),
            ("uce", 1, -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)) / math.log(3)),
            ("brier", 2, 0.14),
            ("brier_top", 1, 0.09),
            ("nll", math.inf, -math.log(0.7)),
            ("aurc", 1, 0),
        ],
    )
    def test_all_wrong_and_certain_and_one_class_only(self, name, all_wrong, one_class):
        close(METRICS[name]([1, 2, 0] * 2, [*np.eye(3)] * 2), all_wrong)
        close(METRICS[name]([0, 0, 0], [[0.7, 0.2, 0.1]] * 3), one_class)

    def test_one_sample_and_more_bins_than_samples(self):
        for name, metric in VARIANTS.items():
            assert 0 <= metric([1], [[0.3, 0.7]]) <= 1, name
            if "bins" in inspect.signature(metric).parameters:
                assert 0 <= metric([0, 1], [[0.9, 0.1], [0.3, 0.7]], bins=1000) <= 1, name

    @pytest.mark.parametrize(
        "p", [np.full((1, 10), 0.1, ml_dtypes.bfloat16), np.array([[1.005, 0.0]])], ids=["rounded", "above one"]
    )
    def test_bounds_hold_for_rows_that_sum_to_one_within_the_tolerance(self, p):
        outside = {}
        for name, metric in METRICS.items():
            for label in (0, 1):
                value = metric([label], p)
                if not 0 <= value <= HIGHEST.get(name, 1):
                    outside[name, label] = value
        assert not outside
