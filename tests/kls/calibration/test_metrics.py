import inspect
import json
import math
import runpy
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from kls.calibration import (
    METRICS,
    accuracy,
    area_under_risk_coverage,
    brier_score,
    brier_top,
    classwise_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
    interval,
    maximum_calibration_error,
    negative_log_likelihood,
    risk_coverage,
    samples,
    summarize,
    uncertainty_calibration_error,
)

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
some = settings(max_examples=30)


def close(found, expected, name=""):
    """Compares to rounding; the debiased error is the root of a difference, so that 1e-17 becomes 3e-9."""
    atol = 1e-7 if "debiased" in name else 1e-12
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=atol, err_msg=name)


def sample(n=200, k=5, seed=0, dtype="float64"):
    """Returns labels, logits and probabilities of a classifier that is right now and then."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, k))
    labels = np.where(rng.random(n) < 0.5, logits.argmax(axis=1), rng.integers(k, size=n))
    powers = np.exp(logits)
    return labels, logits.astype(dtype), (powers / powers.sum(axis=1, keepdims=True)).astype(dtype)


@st.composite
def labels_and(draw, scores):
    """Draws labels and scores of 1 to 12 samples and 2 to 4 classes."""
    n, k = draw(st.integers(1, 12)), draw(st.integers(2, 4))
    return draw(arrays(np.int64, n, elements=st.integers(0, k - 1))), draw(arrays(np.int64, (n, k), elements=scores))


def to_probabilities(drawn):
    """Turns small whole numbers into probabilities with many ties, zeros and confidences on the edges of bins."""
    labels, counts = drawn
    counts[counts.sum(axis=1) == 0, 0] = 1
    return labels, counts / counts.sum(axis=1, keepdims=True)


predictions = labels_and(st.integers(0, 6)).map(to_probabilities)
logit_predictions = labels_and(st.integers(-40, 40)).map(lambda drawn: (drawn[0], drawn[1] / 4))


def repetitions(n, rows=()):
    weights = arrays(np.int64, (*rows, n), elements=st.integers(0, 3))
    return weights.filter(lambda drawn: (drawn.sum(axis=-1) > 0).all())


FIVE_LABELS = [0, 0, 2, 1, 1]
FIVE = [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2], [0.3, 0.4, 0.3]]
TWO_CLASS_LABELS = [0, 1, 1, 1]
TWO_CLASSES = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]]


class TestAccuracyByHand:
    def test_is_the_share_of_hits(self):
        assert accuracy(FIVE_LABELS, FIVE) == 0.6

    def test_of_equally_likely_classes_the_first_counts(self):
        assert accuracy([0, 1], [[0.5, 0.5], [0.5, 0.5]]) == 0.5
        assert accuracy([1, 2], [[0.2, 0.4, 0.4], [0.2, 0.4, 0.4]]) == 0.5

    def test_of_weights(self):
        assert accuracy([0, 1], [[0.9, 0.1], [0.8, 0.2]], sample_weight=[3, 1]) == 0.75


class TestExpectedCalibrationErrorByHand:
    # (0.8, 1]: 0.9 0.9, one right; (0.4, 0.6]: 0.6 0.5, one right; (0.2, 0.4]: 0.4, right
    @pytest.mark.parametrize(
        ("norm", "expected"),
        [(1, (2 * 0.4 + 2 * 0.05 + 0.6) / 5), (2, math.sqrt((2 * 0.16 + 2 * 0.0025 + 0.36) / 5)), ("max", 0.6)],
    )
    def test_guo(self, norm, expected):
        close(expected_calibration_error(FIVE_LABELS, FIVE, bins=5, norm=norm), expected)

    # [0.8, 1]: as above; [0.6, 0.8): 0.6, right; [0.4, 0.6): 0.5 0.4, one right
    @pytest.mark.parametrize("convention", ["netcal", "torchmetrics"])
    @pytest.mark.parametrize(
        ("norm", "expected"),
        [(1, (2 * 0.4 + 0.4 + 2 * 0.05) / 5), (2, math.sqrt((2 * 0.16 + 0.16 + 2 * 0.0025) / 5)), ("max", 0.4)],
    )
    def test_closed_left(self, convention, norm, expected):
        close(expected_calibration_error(FIVE_LABELS, FIVE, bins=5, norm=norm, convention=convention), expected)

    @pytest.mark.parametrize(
        ("convention", "ece", "mce"), [("guo", 0.45, 0.45), ("netcal", 0.45, 0.45), ("torchmetrics", 0.55, 1.0)]
    )
    def test_exactly_one_has_a_bin_of_its_own_in_torchmetrics_alone(self, convention, ece, mce):
        labels, p = [0, 0], [[0.9, 0.1], [0.0, 1.0]]
        close(expected_calibration_error(labels, p, bins=1, convention=convention), ece)
        close(maximum_calibration_error(labels, p, bins=1, convention=convention), mce)

    def test_one_bin_is_accuracy_against_mean_confidence(self):
        close(expected_calibration_error(FIVE_LABELS, FIVE, bins=1), abs(3.3 / 5 - 0.6))

    # the five sorted: 0.4 right, 0.5 wrong, 0.6 right, and 0.9 right and wrong, which share a bin
    @pytest.mark.parametrize(
        ("bins", "expected"),
        [(1, 0.06), (2, (3 * (2 / 3 - 0.5) + 2 * 0.4) / 5), (5, (0.6 + 0.5 + 0.4 + 2 * 0.4) / 5)],
    )
    def test_equal_mass_keeps_equal_confidences_together(self, bins, expected):
        close(expected_calibration_error(FIVE_LABELS, FIVE, bins=bins, binning="mass"), expected)

    def test_equal_mass_of_equal_confidences_alone_is_one_bin(self):
        error = expected_calibration_error([0, 0, 0, 1], [[0.9, 0.1]] * 4, bins=4, binning="mass", norm="max")
        assert error == pytest.approx(0.15)

    def test_weights_move_the_bins_of_equal_mass(self):
        p = [[0.6, 0.4], [0.7, 0.3], [0.8, 0.2]]  # 0.6 alone is half of the weight
        error = expected_calibration_error([0, 1, 0], p, bins=2, binning="mass", sample_weight=[2, 1, 1])
        close(error, (2 * 0.4 + 2 * 0.25) / 4)

    def test_maximum_is_norm_max_and_a_single_sample_counts(self):
        assert maximum_calibration_error(FIVE_LABELS, FIVE, bins=5) == pytest.approx(0.6)
        labels, _, p = sample()
        for options in ({}, {"bins": 7, "binning": "mass"}, {"convention": "netcal"}):
            assert maximum_calibration_error(labels, p, **options) == expected_calibration_error(
                labels, p, norm="max", **options
            )


class TestDebiasedByHand:
    LABELS = (0, 1, 1, 1, 1)
    PREDICTIONS = ([0.9, 0.1],) * 3 + ([0.6, 0.4],) * 2

    def test_of_equal_mass(self):
        # 0.6 twice, both wrong: 0.36 - 0; 0.9 three times, one right: (0.9 - 1/3)^2 - (2/9)/2 = 0.21
        found = debiased_calibration_error(self.LABELS, self.PREDICTIONS, bins=3)
        close(found, math.sqrt((2 * 0.36 + 3 * 0.21) / 5))

    def test_a_bin_of_one_sample_adds_nothing_but_counts_in_the_share(self):
        labels, p = (*self.LABELS, 0), (*self.PREDICTIONS, [0.75, 0.25])
        found = debiased_calibration_error(labels, p, bins=10, binning="width")
        close(found, math.sqrt((2 * 0.36 + 3 * 0.21) / 6))

    def test_noise_below_zero_gives_zero(self):
        assert debiased_calibration_error(FIVE_LABELS, FIVE, bins=1) == 0.0  # 0.06^2 < 0.24 / 4

    def test_of_single_samples_only_is_zero(self):
        assert debiased_calibration_error([1, 1], [[0.9, 0.1], [0.6, 0.4]], bins=2) == 0.0

    def test_is_never_above_the_plain_estimate_and_converges_to_it(self):
        labels, _, p = sample(n=5000)
        plain = expected_calibration_error(labels, p, binning="mass", norm=2)
        debiased = debiased_calibration_error(labels, p)
        assert 0.97 * plain < debiased < plain

    @pytest.mark.parametrize("weights", [[0.5, 0.5, 0.5, 0.5, 0.5], [1, 1, 1, 1, 1.5]])
    def test_weights_that_are_no_whole_numbers_are_refused(self, weights):
        with pytest.raises(ValueError, match=r"`sample_weight`.*whole.*(0\.5|1\.5)"):
            debiased_calibration_error(self.LABELS, self.PREDICTIONS, sample_weight=weights)


class TestClasswiseByHand:
    # class 0: 0.9 yes | 0.8 no | 0.3 no | 0.1 no; class 1: 0.1 no | 0.2 yes | 0.7 yes | 0.9 yes
    @pytest.mark.parametrize(
        ("threshold", "expected"),
        [
            (0, (0.275 + 0.275) / 2),
            (0.05, (0.275 + 0.275) / 2),
            (0.25, ((2 * 0.35 + 0.3) / 3 + 0.2) / 2),
            (0.85, 0.1),
            (0.9, 0.0),
            (0.95, 0.0),
        ],
    )
    def test_static_and_above_a_threshold(self, threshold, expected):
        close(classwise_calibration_error(TWO_CLASS_LABELS, TWO_CLASSES, bins=2, threshold=threshold), expected)

    @pytest.mark.parametrize(("threshold", "expected"), [(0, 0.275), (0.25, ((2 * 0.55 + 0.1) / 3 + 0.2) / 2)])
    def test_adaptive_and_above_a_threshold(self, threshold, expected):
        found = classwise_calibration_error(TWO_CLASS_LABELS, TWO_CLASSES, bins=2, binning="mass", threshold=threshold)
        close(found, expected)

    def test_a_class_below_the_threshold_adds_zero_to_the_mean(self):
        found = classwise_calibration_error([0, 1], [[0.95, 0.05, 0.0], [0.95, 0.05, 0.0]], threshold=0.1)
        close(found, 0.45 / 3)

    def test_without_a_threshold_probabilities_of_zero_count(self):
        close(classwise_calibration_error([0, 1], [[1.0, 0.0], [1.0, 0.0]], bins=2), (0.5 + 0.5) / 2)

    def test_conventions_differ_on_edges(self):
        labels, p = [1, 0], [[0.5, 0.5], [0.25, 0.75]]  # class 0: 0.5 no, 0.25 yes; class 1: 0.5 yes, 0.75 no
        close(classwise_calibration_error(labels, p, bins=2), (abs(0.5 - 0.375) + (0.5 + 0.75) / 2) / 2)
        netcal = classwise_calibration_error(labels, p, bins=2, convention="netcal")
        close(netcal, ((0.5 + 0.75) / 2 + abs(0.5 - 0.625)) / 2)

    def test_a_resample_without_a_class_adds_zero_for_it(self):
        options = {"bins": 2, "binning": "mass", "threshold": 0.5}
        weights = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]])
        together = classwise_calibration_error(TWO_CLASS_LABELS, TWO_CLASSES, sample_weight=weights, **options)
        apart = [
            classwise_calibration_error(TWO_CLASS_LABELS, TWO_CLASSES, sample_weight=row, **options) for row in weights
        ]
        close(together, apart)


class TestUncertaintyByHand:
    def test_two_classes(self):
        p = [[0.5, 0.5], [1.0, 0.0], [1.0, 0.0]]  # entropy 1, wrong; entropy 0, right and wrong
        close(uncertainty_calibration_error([1, 0, 1], p), (0 + 2 * 0.5) / 3)

    def test_half_of_the_largest_entropy_lies_on_an_edge(self):
        p = [[0.5, 0.5, 0, 0], [1, 0, 0, 0]]  # entropy log 2 / log 4, right; entropy 0, wrong
        close(uncertainty_calibration_error([0, 1], p, bins=2), 0.25)

    def test_is_normalised_by_the_number_of_classes(self):
        for k in (2, 3, 7, 100):
            close(uncertainty_calibration_error([0], np.full((1, k), 1 / k)), 1.0)

    def test_by_hand_of_an_uneven_row(self):
        entropy = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)) / math.log(3)
        close(uncertainty_calibration_error([0], [[0.7, 0.2, 0.1]]), entropy)
        close(uncertainty_calibration_error([1], [[0.7, 0.2, 0.1]]), 1 - entropy)


class TestProperScoresByHand:
    ROW = (0.7, 0.2, 0.1)

    def test_brier(self):
        close(brier_score([0], [self.ROW]), 0.14)
        close(brier_score([1], [self.ROW]), 0.49 + 0.64 + 0.01)
        close(brier_score([0, 1], [self.ROW] * 2), 0.64)
        assert brier_score([1], [[1.0, 0.0]]) == 2.0

    def test_brier_of_the_top_label(self):
        close(brier_top([0], [self.ROW]), 0.09)
        close(brier_top([1], [self.ROW]), 0.49)
        close(brier_top([0, 1], [self.ROW] * 2, sample_weight=[3, 1]), (3 * 0.09 + 0.49) / 4)

    def test_negative_log_likelihood(self):
        close(negative_log_likelihood([0, 1], [self.ROW] * 2), -(math.log(0.7) + math.log(0.2)) / 2)
        close(negative_log_likelihood([0], [[0.0, math.log(3)]], from_logits=True), math.log(4))

    def test_a_likelihood_of_zero_is_infinite_unless_it_weighs_nothing(self):
        p = [[1.0, 0.0], [0.5, 0.5]]
        assert negative_log_likelihood([1, 0], p) == math.inf
        assert negative_log_likelihood([0, 0], p) < math.inf
        close(negative_log_likelihood([1, 0], p, sample_weight=[0, 2]), math.log(2))
        close(negative_log_likelihood([1, 0], p, sample_weight=[[0, 2], [1, 1]]), [math.log(2), math.inf])

    def test_logits_keep_a_likelihood_that_probabilities_lose(self):
        assert negative_log_likelihood([0], [[-1000.0, 0.0]], from_logits=True) == 1000.0
        close(negative_log_likelihood([1], [[0.0, 40.0]], from_logits=True), math.exp(-40))
        assert negative_log_likelihood([0], [[-math.inf, 0.0]], from_logits=True) == math.inf


class TestRiskCoverageByHand:
    LABELS = (0, 1, 0, 1)  # 0.9 right, 0.8 wrong and right, 0.6 wrong
    PREDICTIONS = ([0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.6, 0.4])

    @pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
    def test_ties_are_answered_together_in_any_order(self, order):
        labels, p = np.array(self.LABELS)[[*order]], np.array(self.PREDICTIONS)[[*order]]
        close(area_under_risk_coverage(labels, p), (0 + 1 / 3 + 1 / 3 + 1 / 2) / 4)
        coverage, risk = risk_coverage(labels, p)
        assert coverage.tolist() == [0.25, 0.75, 1.0]
        close(risk, [0, 1 / 3, 1 / 2])

    def test_of_weights(self):
        found = area_under_risk_coverage(self.LABELS, self.PREDICTIONS, sample_weight=[0, 1, 2, 1])
        close(found, (3 * 1 / 3 + 2 / 4) / 4)

    def test_one_confidence_for_all_is_the_error_rate(self):
        close(area_under_risk_coverage([0, 1, 1, 1], [[0.7, 0.3]] * 4), 0.75)
        coverage, risk = risk_coverage([0, 1, 1, 1], [[0.7, 0.3]] * 4)
        assert (coverage.tolist(), risk.tolist()) == ([1.0], [0.75])

    @some
    @given(predictions)
    def test_is_the_mean_over_samples_of_the_risk_at_their_own_confidence(self, drawn):
        labels, p = drawn
        confidence, wrong = p.max(axis=1), p.argmax(axis=1) != labels
        close(area_under_risk_coverage(labels, p), np.mean([wrong[confidence >= c].mean() for c in confidence]))
        coverage, risk = risk_coverage(labels, p)
        thresholds = np.unique(confidence)[::-1]
        close(coverage, [(confidence >= c).mean() for c in thresholds])
        close(risk, [wrong[confidence >= c].mean() for c in thresholds])

    def test_a_curve_from_logits_is_that_of_their_probabilities(self):
        labels, logits, p = sample(n=50)
        for ours, theirs in zip(risk_coverage(labels, logits, from_logits=True), risk_coverage(labels, p), strict=True):
            close(ours, theirs)


class TestSummarize:
    @pytest.mark.parametrize("from_logits", [True, False])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("weights", [None, "one row", "rows"])
    def test_equals_the_single_functions(self, from_logits, dtype, weights):
        labels, logits, p = sample(n=100, dtype=dtype)
        values = logits if from_logits else p
        rng = np.random.default_rng(1)
        weight = {None: None, "one row": rng.random(100), "rows": rng.random((3, 100))}[weights]
        binned = {"bins": 7, "convention": "netcal"}
        found = summarize(labels, values, from_logits=from_logits, sample_weight=weight, **binned)
        assert list(found) == ["accuracy", "ece", "mce", "uce", "nll", "brier", "brier_top", "aurc"]
        for name, value in found.items():
            options = binned if name in ("ece", "mce") else {"bins": 7} if name == "uce" else {}
            expected = METRICS[name](labels, values, from_logits=from_logits, sample_weight=weight, **options)
            np.testing.assert_array_equal(value, expected, err_msg=name)

    def test_defaults_are_those_of_the_single_functions(self):
        labels, _, p = sample()
        for name, value in summarize(labels, p).items():
            assert value == METRICS[name](labels, p)


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("k", [2, 3, 20])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_accuracy_brier_and_log_loss(self, k, weighted):
        labels, logits, p = sample(k=k)
        weight = np.random.default_rng(1).random(len(labels)) if weighted else None
        options = {"sample_weight": weight}
        classes = np.arange(k)
        close(accuracy(labels, p, **options), accuracy_score(labels, p.argmax(axis=1), **options))
        close(negative_log_likelihood(labels, p, **options), log_loss(labels, p, labels=classes, **options))
        theirs = brier_score_loss(labels, p, labels=classes, scale_by_half=False, **options)
        close(brier_score(labels, p, **options), theirs)
        close(brier_score(labels, logits, from_logits=True, **options), theirs)
        correct = p.argmax(axis=1) == labels
        if k > 2:
            close(brier_top(labels, p, **options), brier_score_loss(correct, p.max(axis=1), **options))


HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden.json").read_text())
GOLDEN_METRICS = {
    ("torchmetrics", "l1"): partial(expected_calibration_error, convention="torchmetrics"),
    ("torchmetrics", "l2"): partial(expected_calibration_error, convention="torchmetrics", norm=2),
    ("torchmetrics", "max"): partial(maximum_calibration_error, convention="torchmetrics"),
    ("netcal", "ece"): partial(expected_calibration_error, convention="netcal"),
    ("netcal", "mce"): partial(maximum_calibration_error, convention="netcal"),
    ("netcal", "classwise"): partial(classwise_calibration_error, convention="netcal"),
    ("netcal", "ece of equal mass"): partial(expected_calibration_error, binning="mass"),
    ("netcal", "mce of equal mass"): partial(maximum_calibration_error, binning="mass"),
} | {
    ("uncertainty-calibration", f"{name} of equal {binning}"): partial(metric, binning=binning)
    for binning in ("width", "mass")
    for name, metric in {
        "l1": expected_calibration_error,
        "l2": partial(expected_calibration_error, norm=2),
        "debiased": debiased_calibration_error,
        "classwise": classwise_calibration_error,
    }.items()
}
PRECISION = {  # torchmetrics sums float32; netcal turns a confidence of 1 into 1 minus the dtype's epsilon
    ("torchmetrics", "float32"): 1e-6,
    ("torchmetrics", "float64"): 1e-6,
    ("netcal", "float32"): 2e-7,
}


class TestAgainstOtherPackages:
    @pytest.mark.parametrize(
        "entry", GOLDEN["entries"], ids=lambda entry: "-".join(map(str, (entry["package"], *entry["inputs"].values())))
    )
    def test_equals(self, entry):
        package, inputs = entry["package"], entry["inputs"]
        script = runpy.run_path(str(HERE / "make_golden.py"))
        labels, p = script["make_inputs"](**inputs)
        assert script["checksum"](labels, p) == entry["checksum"], "NumPy draws otherwise: run make_golden.py again"
        for name, expected in entry["values"].items():
            found = GOLDEN_METRICS[package, name](labels, p, bins=inputs["bins"])
            tolerance = PRECISION.get((package, inputs["dtype"]), 1e-12)
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=name)

    def test_every_kind_of_value_is_there(self):
        found = {(entry["package"], name) for entry in GOLDEN["entries"] for name in entry["values"]}
        assert found == set(GOLDEN_METRICS)
        assert sum(entry["inputs"]["bins"] in entry["inputs"]["edges"] for entry in GOLDEN["entries"]) >= 40


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

    def test_more_numbers_than_are_worked_on_at_once(self, monkeypatch):
        labels, logits, p = sample(n=97)

        def found():
            return {
                name: (metric(labels, logits, from_logits=True), metric(labels, p)) for name, metric in VARIANTS.items()
            }

        expected = found()
        monkeypatch.setattr(samples, "CHUNK", 40)
        assert found() == expected

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


def refuse(match, *arguments, received="", metrics=METRICS, **options):
    """Asserts that every metric raises the error, with what was received after "Received:"."""
    for name, metric in metrics.items():
        with pytest.raises(ValueError, match=match) as error:
            metric(*arguments, **options)
        assert received in str(error.value).partition("Received:")[2], name


class TestWrongPredictions:
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
    def test_no_probabilities(self, row, received):
        refuse("`probabilities` must ", [0, 1], [[0.5, 0.5], row], received=f"row 1 with {received}")

    def test_logits_that_pass_for_probabilities_are_told_of_from_logits(self):
        refuse("from_logits=True", [0], [[3.0, -1.0]])

    @pytest.mark.parametrize(
        "row",
        [[0.5, math.nan], [0.5, math.inf], [math.inf, math.inf], [math.inf, -math.inf], [-math.inf, -math.inf]],
    )
    def test_no_logits(self, row):
        refuse("`logits` must .*infinity.*finite", [0, 1], [[0.5, 0.5], row], received="row 1", from_logits=True)

    @pytest.mark.parametrize("wrong", ["nan", "inf"])
    def test_the_value_of_a_logit_is_named(self, wrong):
        with pytest.raises(ValueError, match=rf"Received: row 1.*{wrong}"):
            accuracy([0, 1], [[0.5, 0.5], [0.5, float(wrong)]], from_logits=True)

    def test_a_single_column_is_told_to_give_both(self):
        refuse(r"\[1 - p, p\]", [0, 1], [[0.4], [0.6]])

    def test_the_row_is_that_of_the_whole_set(self, monkeypatch):
        monkeypatch.setattr(samples, "CHUNK", 4)
        p = np.full((9, 2), 0.5)
        p[7] = 0.6
        refuse("`probabilities` must sum to 1", [0] * 9, p, received="row 7 with 1.2")

    def test_what_is_not_a_single_metric_refuses_too(self):
        others = {"summarize": summarize, "risk_coverage": risk_coverage, "interval": partial(interval, accuracy)}
        refuse("`probabilities`", [0, 1], [[0.5, 0.5], [0.5, 0.4]], received="row 1 with 0.9", metrics=others)
        refuse(r"`y_true` .*0\.\.1", [0, 2], [[0.5, 0.5]] * 2, received="y_true[1]=2", metrics=others)


class TestWrongLabels:
    @pytest.mark.parametrize("row", [[1, 1, 0], [0, 0, 0], [0.5, 0.5, 0], [2, -1, 0], [math.nan, 1, 0], [0, 2, 0]])
    def test_not_one_hot(self, row):
        refuse("`y_true` .*must be one-hot", [[1, 0, 0], row, [0, 0, 1]], np.eye(3))

    @pytest.mark.parametrize("row", [[1, 1, 0], [0.5, 0.5, 0], [math.nan, 1, 0]])
    def test_the_row_that_is_not_one_hot_is_named(self, row):
        with pytest.raises(ValueError, match=rf"Received: .*1.*{row[0]}"):
            accuracy([[1, 0, 0], row, [0, 0, 1]], np.eye(3))


BINNED = {
    "ece": expected_calibration_error,
    "mce": maximum_calibration_error,
    "debiased": debiased_calibration_error,
    "classwise": classwise_calibration_error,
    "uce": uncertainty_calibration_error,
    "summarize": summarize,
}
WITH_BINNING = {name: BINNED[name] for name in ("ece", "mce", "debiased", "classwise")}


class TestWrongOptions:
    ARGUMENTS = ([0, 1], np.eye(2))

    @pytest.mark.parametrize("ten", [np.int32(10), np.uint8(10)])
    def test_a_whole_number_of_another_type_is_a_number_of_bins(self, ten):
        labels, _, p = sample(n=30)
        for name, metric in BINNED.items():
            assert metric(labels, p, bins=ten) == metric(labels, p, bins=10), name

    @pytest.mark.parametrize("convention", ["netcal", "torchmetrics"])
    def test_a_convention_of_equal_width_for_bins_of_equal_mass(self, convention):
        metrics = {name: WITH_BINNING[name] for name in WITH_BINNING if name != "debiased"}
        options = {"binning": "mass", "convention": convention}
        refuse("equal-width", *self.ARGUMENTS, received=f"'{convention}', binning='mass'", metrics=metrics, **options)
