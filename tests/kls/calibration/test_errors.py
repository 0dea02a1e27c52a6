import json
import math
import runpy
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from kls.calibration import (
    classwise_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
    summarize,
    uncertainty_calibration_error,
)

from .helpers import FIVE, FIVE_LABELS, close, sample

pytestmark = pytest.mark.filterwarnings("error")

TWO_CLASS_LABELS = [0, 1, 1, 1]
TWO_CLASSES = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]]


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


class TestOptions:
    def test_a_whole_number_of_another_type_is_a_number_of_bins(self):
        labels, _, p = sample(n=30)
        for metric in (
            expected_calibration_error,
            maximum_calibration_error,
            debiased_calibration_error,
            classwise_calibration_error,
            uncertainty_calibration_error,
            summarize,
        ):
            assert metric(labels, p, bins=np.uint8(10)) == metric(labels, p, bins=10)

    @pytest.mark.parametrize("convention", ["netcal", "torchmetrics"])
    @pytest.mark.parametrize(
        "metric", [expected_calibration_error, maximum_calibration_error, classwise_calibration_error]
    )
    def test_a_convention_of_equal_width_for_bins_of_equal_mass(self, metric, convention):
        with pytest.raises(ValueError, match=f"equal-width.*Received: convention='{convention}', binning='mass'"):
            metric([0, 1], np.eye(2), binning="mass", convention=convention)
