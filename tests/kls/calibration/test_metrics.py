import math

import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from kls.calibration import (
    METRICS,
    accuracy,
    area_under_risk_coverage,
    brier_score,
    brier_top,
    negative_log_likelihood,
    risk_coverage,
    summarize,
)

from .helpers import FIVE, FIVE_LABELS, close, predictions, sample, some

pytestmark = pytest.mark.filterwarnings("error")


class TestAccuracyByHand:
    def test_is_the_share_of_hits(self):
        assert accuracy(FIVE_LABELS, FIVE) == 0.6

    def test_of_equally_likely_classes_the_first_counts(self):
        assert accuracy([0, 1], [[0.5, 0.5], [0.5, 0.5]]) == 0.5
        assert accuracy([1, 2], [[0.2, 0.4, 0.4], [0.2, 0.4, 0.4]]) == 0.5

    def test_of_weights(self):
        assert accuracy([0, 1], [[0.9, 0.1], [0.8, 0.2]], sample_weight=[3, 1]) == 0.75


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
