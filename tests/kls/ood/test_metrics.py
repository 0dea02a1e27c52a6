import json
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from kls.ood import (
    CONVENTIONS,
    METRICS,
    aupr_in,
    aupr_out,
    auroc,
    detection_accuracy,
    detection_threshold,
    fpr_at_tpr,
    interval,
    roc,
)
from kls.ood.metrics import MEANINGS

INF = float("inf")
GOLDEN = json.loads(Path(__file__).with_name("golden_metrics.json").read_text())["cases"]
THRESHOLD_FREE = [auroc, aupr_in, aupr_out, fpr_at_tpr]
ALL = [*THRESHOLD_FREE, detection_threshold, partial(detection_accuracy, threshold=0.0), roc]
# Few distinct values: ties within a side and across both, with infinities among them.
TIED = st.lists(st.sampled_from([-INF, -3.0, -1.0, 0.0, 0.5, 2.0, INF]), min_size=1, max_size=12)
FREE = st.lists(st.floats(-1e300, 1e300, allow_subnormal=False), min_size=1, max_size=12)
SIDE = TIED | FREE


def ranks(id_scores, ood_scores):
    """Returns both sides as ranks, which scikit-learn takes where it refuses infinities, and the labels of both."""
    _, ranked = np.unique(np.r_[id_scores, ood_scores], return_inverse=True)
    return ranked, np.r_[np.ones(len(id_scores), int), np.zeros(len(ood_scores), int)]


def theirs(metric, id_scores, ood_scores, tpr=0.95, sample_weight=None):
    """The metric by scikit-learn."""
    ranked, labels = ranks(id_scores, ood_scores)
    weight = None if sample_weight is None else np.concatenate(sample_weight)
    if metric is auroc:
        return roc_auc_score(labels, ranked, sample_weight=weight)
    if metric is aupr_in:
        return average_precision_score(labels, ranked, sample_weight=weight)
    if metric is aupr_out:
        return average_precision_score(1 - labels, -ranked, sample_weight=weight)
    false_rate, true_rate, _ = roc_curve(labels, ranked, sample_weight=weight, drop_intermediate=False)
    return false_rate[np.argmax(true_rate >= tpr - 1e-12)]


def random_case(rng):
    """Returns two sides of 1 to 40 scores: whole numbers, rounded, distinct or with infinities."""
    n, m = rng.integers(1, 41, 2) if rng.random() < 0.7 else rng.integers(1, 4, 2)
    kind = rng.integers(4)
    scores = rng.normal(size=n + m) * 3
    if kind == 0:
        scores = scores.round()
    elif kind == 1:
        scores = rng.integers(0, 2, n + m).astype(float)
    elif kind == 2:
        scores[rng.random(n + m) < 0.3] = rng.choice([-INF, INF])
    return scores[:n], scores[n:]


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("metric", THRESHOLD_FREE)
    def test_on_three_hundred_random_cases(self, metric):
        rng = np.random.default_rng(0)
        for _ in range(300):
            id_scores, ood_scores = random_case(rng)
            assert metric(id_scores, ood_scores) == pytest.approx(theirs(metric, id_scores, ood_scores), abs=1e-12)

    @pytest.mark.parametrize("tpr", [1e-9, 0.05, 0.5, 0.8, 0.9, 0.99, 1.0])
    def test_false_positive_rate_at_any_true_positive_rate(self, tpr):
        rng = np.random.default_rng(1)
        for _ in range(60):
            id_scores, ood_scores = random_case(rng)
            expected = theirs(fpr_at_tpr, id_scores, ood_scores, tpr)
            assert fpr_at_tpr(id_scores, ood_scores, tpr=tpr) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("metric", THRESHOLD_FREE)
    def test_with_weights(self, metric):
        rng = np.random.default_rng(2)
        for _ in range(100):
            id_scores, ood_scores = random_case(rng)
            weights = rng.lognormal(size=len(id_scores)), rng.lognormal(size=len(ood_scores))
            expected = theirs(metric, id_scores, ood_scores, sample_weight=weights)
            assert metric(id_scores, ood_scores, sample_weight=weights) == pytest.approx(expected, abs=1e-12)

    def test_roc(self):
        rng = np.random.default_rng(3)
        for _ in range(60):
            id_scores, ood_scores = random_case(rng)
            ranked, labels = ranks(id_scores, ood_scores)
            false_rate, true_rate, _ = roc_curve(labels, ranked, drop_intermediate=False)
            found = roc(id_scores, ood_scores)
            np.testing.assert_allclose(found[0], false_rate, atol=1e-12)
            np.testing.assert_allclose(found[1], true_rate, atol=1e-12)

    def test_on_a_million_scores(self):
        rng = np.random.default_rng(4)
        id_scores, ood_scores = rng.normal(1, 1, 600_000).astype("float32"), rng.normal(0, 1, 400_000).astype("float32")
        scores, labels = np.r_[id_scores, ood_scores], np.r_[np.ones(600_000), np.zeros(400_000)]
        assert auroc(id_scores, ood_scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
        assert aupr_in(id_scores, ood_scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
        assert aupr_out(id_scores, ood_scores) == pytest.approx(average_precision_score(1 - labels, -scores), abs=1e-9)
        kept = np.quantile(id_scores, 0.05, method="inverted_cdf")
        assert fpr_at_tpr(id_scores, ood_scores) == pytest.approx((ood_scores >= kept).mean(), abs=1e-5)


class TestByHand:
    # Thresholds from above: 5: F 1/4; 4: F 2/4, U 1/2; 3: F 3/4; 2: U 2/2; 1: F 4/4.
    ID, OOD = [5.0, 4.0, 3.0, 1.0], [4.0, 2.0]

    def test_auroc_counts_ties_half(self):
        # pairs won against 4: 5 (1) and 4 (1/2); against 2: 5, 4 and 3
        assert auroc(self.ID, self.OOD) == pytest.approx(4.5 / 8, rel=1e-15)

    def test_aupr_with_the_id_as_positives(self):
        # precision 1/1 at recall 1/4, 2/3 at 2/4, 3/4 at 3/4, 4/6 at 4/4
        assert aupr_in(self.ID, self.OOD) == pytest.approx((1 + 2 / 3 + 3 / 4 + 4 / 6) / 4, rel=1e-15)

    def test_aupr_with_the_ood_as_positives(self):
        # from below: 1: nothing; 2: precision 1/2 at recall 1/2; 3: no step; 4: 2/5 at recall 1
        assert aupr_out(self.ID, self.OOD) == pytest.approx((1 / 2 + 2 / 5) / 2, rel=1e-15)

    @pytest.mark.parametrize(
        ("tpr", "expected"), [(0.25, 0.0), (0.26, 0.5), (0.5, 0.5), (0.75, 0.5), (0.76, 1.0), (0.95, 1.0), (1.0, 1.0)]
    )
    def test_false_positive_rate(self, tpr, expected):
        assert fpr_at_tpr(self.ID, self.OOD, tpr=tpr) == expected

    @pytest.mark.parametrize("count", [100, 300, 700, 1000])
    @pytest.mark.parametrize("percent", [5, 7, 10, 28, 55, 56, 70, 90, 95, 99])
    def test_an_exactly_reached_rate_needs_no_sample_more(self, count, percent):
        kept = count * percent // 100
        id_scores = np.arange(count, 0, -1.0)
        assert fpr_at_tpr(id_scores, [id_scores[kept - 1] - 0.5], tpr=percent / 100) == 0
        assert fpr_at_tpr(id_scores, [id_scores[kept - 1]], tpr=percent / 100) == 1

    def test_roc(self):
        false_rate, true_rate = roc(self.ID, self.OOD)
        assert false_rate.tolist() == [0, 0, 0.5, 0.5, 1, 1]
        assert true_rate.tolist() == [0, 0.25, 0.5, 0.75, 0.75, 1]

    def test_detection_accuracy_is_at_or_above_the_threshold(self):
        # at 4: TPR 2/4, TNR 1/2; just above 4: TPR 1/4, TNR 2/2; at 3: TPR 3/4, TNR 1/2
        assert detection_accuracy(self.ID, self.OOD, 4.0) == 0.5
        assert detection_accuracy(self.ID, self.OOD, 4.0001) == 0.625
        assert detection_accuracy(self.ID, self.OOD, 3.0) == 0.625

    def test_detection_accuracy_counts_both_sides_alike(self):
        assert detection_accuracy([1.0], [0.0] * 999 + [2.0], 0.5) == pytest.approx((1 + 0.999) / 2)

    def test_the_threshold_is_the_highest_of_equally_good_ones(self):
        assert detection_threshold(self.ID, self.OOD) == 5.0  # 5 and 3 reach 0.625

    def test_a_threshold_from_validation_data_is_applied_elsewhere(self):
        threshold = detection_threshold([3.0, 4.0], [1.0, 2.0])
        assert threshold == 3.0
        assert detection_accuracy([3.0, 4.0], [1.0, 2.0], threshold) == 1.0
        # on other data: 2.9 is lost, 3.0 gets in, though 2.5 would tell them apart better
        assert detection_accuracy([2.9, 5.0, 6.0, 7.0], [3.0, 2.0], threshold) == (0.75 + 0.5) / 2

    @pytest.mark.parametrize(("threshold", "expected"), [(-INF, 0.5), (INF, 0.5), (1.5, 1.0)])
    def test_a_threshold_may_be_anything_but_no_number(self, threshold, expected):
        assert detection_accuracy([2.0, 3.0], [0.0, 1.0], threshold) == expected

    def test_the_table_holds_the_four_metrics_of_one_number(self):
        assert list(METRICS.values()) == THRESHOLD_FREE
        assert {name: metric(self.ID, self.OOD) for name, metric in METRICS.items()} == {
            "auroc": pytest.approx(0.5625),
            "aupr_in": pytest.approx(0.770833, abs=1e-6),
            "aupr_out": pytest.approx(0.45),
            "fpr95": 1.0,
        }


class TestProperties:
    @given(SIDE, SIDE, st.randoms(use_true_random=False))
    def test_the_order_of_samples_does_not_matter(self, id_scores, ood_scores, random):
        expected = [metric(id_scores, ood_scores) for metric in THRESHOLD_FREE]
        random.shuffle(id_scores)
        random.shuffle(ood_scores)
        assert [metric(id_scores, ood_scores) for metric in THRESHOLD_FREE] == expected

    @given(TIED, TIED, st.sampled_from([np.arctan, lambda x: x / 7 - 1e3, lambda x: np.where(x > 0, np.exp(x), x)]))
    def test_strictly_monotone_maps_change_nothing(self, id_scores, ood_scores, function):
        id_scores, ood_scores = np.array(id_scores), np.array(ood_scores)
        for metric in THRESHOLD_FREE:
            assert metric(function(id_scores), function(ood_scores)) == metric(id_scores, ood_scores)

    @given(SIDE, SIDE)
    def test_auroc_is_the_share_of_pairs_in_order(self, id_scores, ood_scores):
        won = sum(Fraction(int(a > b)) + Fraction(int(a == b), 2) for a in id_scores for b in ood_scores)
        assert auroc(id_scores, ood_scores) == pytest.approx(float(won / len(id_scores) / len(ood_scores)), abs=1e-14)

    @given(SIDE, SIDE)
    def test_the_auprs_are_one_metric_seen_from_both_sides(self, id_scores, ood_scores):
        mirrored = aupr_in(-np.array(ood_scores), -np.array(id_scores))
        assert aupr_out(id_scores, ood_scores) == pytest.approx(mirrored, rel=1e-12)

    @given(SIDE, SIDE)
    def test_all_lie_between_zero_and_one(self, id_scores, ood_scores):
        for metric in THRESHOLD_FREE:
            assert 0 <= metric(id_scores, ood_scores) <= 1
        false_rate, true_rate = roc(id_scores, ood_scores)
        assert (false_rate[0], true_rate[0], false_rate[-1], true_rate[-1]) == (0, 0, 1, 1)
        assert all(a <= b for rate in (false_rate, true_rate) for a, b in pairwise(rate))
        assert len(false_rate) == len(true_rate) == len({*id_scores, *ood_scores}) + 1

    @given(SIDE, SIDE, st.data())
    def test_whole_weights_are_repetitions(self, id_scores, ood_scores, data):
        counts = [
            data.draw(st.lists(st.integers(0, 3), min_size=len(s), max_size=len(s))) for s in (id_scores, ood_scores)
        ]
        assume(all(map(sum, counts)))
        repeated = [np.repeat(side, count) for side, count in zip((id_scores, ood_scores), counts, strict=True)]
        openood = [partial(metric, convention="openood") for metric in (aupr_in, aupr_out, fpr_at_tpr)]
        for metric in [*THRESHOLD_FREE, *openood, partial(detection_accuracy, threshold=0.5)]:
            weighted = metric(id_scores, ood_scores, sample_weight=counts)
            assert weighted == pytest.approx(metric(*repeated), abs=1e-14)

    @settings(max_examples=30)
    @given(SIDE, SIDE, st.integers(0, 100))
    def test_rows_of_weights_are_calls(self, id_scores, ood_scores, seed):
        rng = np.random.default_rng(seed)
        rows = [rng.integers(0, 4, (5, len(side))) + rng.random((5, 1)) for side in (id_scores, ood_scores)]
        for metric in [*THRESHOLD_FREE, partial(detection_accuracy, threshold=0.5)]:
            found = metric(id_scores, ood_scores, sample_weight=rows)
            one_by_one = [metric(id_scores, ood_scores, sample_weight=row) for row in zip(*rows, strict=True)]
            assert found.shape == (5,)
            np.testing.assert_allclose(found, one_by_one, rtol=0, atol=1e-15)

    @given(SIDE, SIDE)
    def test_scaled_weights_change_nothing(self, id_scores, ood_scores):
        weights = np.full(len(id_scores), 1e-3), np.full(len(ood_scores), 1e-3)
        for metric in THRESHOLD_FREE:
            assert metric(id_scores, ood_scores, sample_weight=weights) == pytest.approx(
                metric(id_scores, ood_scores), abs=1e-13
            )

    @given(SIDE, SIDE)
    def test_no_threshold_detects_better_and_no_higher_one_as_well(self, id_scores, ood_scores):
        def exact(threshold):
            kept, refused = sum(a >= threshold for a in id_scores), sum(b < threshold for b in ood_scores)
            return Fraction(kept, len(id_scores)) + Fraction(refused, len(ood_scores))

        best = max(sorted({*id_scores, *ood_scores}, reverse=True), key=exact)
        assert detection_threshold(id_scores, ood_scores) == best
        assert detection_accuracy(id_scores, ood_scores, best) == pytest.approx(float(exact(best)) / 2, abs=1e-15)


class TestRounding:
    def test_equally_good_thresholds_are_found_equal(self):
        # at 6: 2/3 - 1/3; at 2: 3/3 - 2/3, which is a bit more in floating point
        assert detection_threshold([6.0, 7.0, 2.0], [7.0, 1.0, 4.0]) == 6.0

    def test_weights_of_unlike_size_do_not_drown_a_step_of_the_ood_curve(self):
        # from below: ID 1, OOD 1: precision 1/2
        weights = [1.0, 1e16], [1.0]
        assert aupr_out([0.0, 5.0], [1.0], sample_weight=weights) == pytest.approx(0.5)
        assert aupr_in([-1.0], [0.0, -5.0], sample_weight=weights[::-1]) == pytest.approx(0.5)


class TestConventions:
    @pytest.mark.parametrize("package", ["openood", "pytorch_ood"])
    @pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["case"])
    def test_openood_gives_the_numbers_of_its_code(self, case, package):
        sides = case["id_scores"], case["ood_scores"]
        for name in ("aupr_in", "aupr_out", "fpr95"):
            found = METRICS[name](*sides, convention="openood")
            assert found == pytest.approx(case[package][name], abs=1e-6), name
        assert auroc(*sides) == pytest.approx(case[package]["auroc"], abs=1e-6)

    def test_odin_is_the_default(self):
        for name in ("aupr_in", "aupr_out", "fpr95"):
            for case in GOLDEN:
                sides = case["id_scores"], case["ood_scores"]
                assert METRICS[name](*sides) == METRICS[name](*sides, convention="odin")

    def test_the_two_sides_by_hand(self):
        id_scores, ood_scores = [4.0, 3.0, 2.0, 1.0], [2.5, 2.0, 0.5]
        # all ID samples pass at 1.0, with two of three OOD; all OOD are found up to 2.5, with two of four ID
        assert fpr_at_tpr(id_scores, ood_scores, tpr=1.0) == 2 / 3
        assert fpr_at_tpr(id_scores, ood_scores, tpr=1.0, convention="openood") == 2 / 4
        # from above: precision 1, 1 at recall 1/4, 2/4; 2/3 there; 3/5 at 3/4; 4/6 at 1
        assert aupr_in(id_scores, ood_scores) == pytest.approx((1 + 1 + 3 / 5 + 4 / 6) / 4)
        trapezoids = 1 + 1 + (2 / 3 + 3 / 5) / 2 + (3 / 5 + 4 / 6) / 2
        assert aupr_in(id_scores, ood_scores, convention="openood") == pytest.approx(trapezoids / 4)

    def test_openood_on_random_cases_is_scikit_learn(self):
        rng = np.random.default_rng(1)
        for _ in range(200):
            id_scores, ood_scores = random_case(rng)
            ranked, labels = ranks(id_scores, ood_scores)
            for name, positive, scores in (("aupr_in", labels, ranked), ("aupr_out", 1 - labels, -ranked)):
                precision, recall, _ = precision_recall_curve(positive, scores)
                found = METRICS[name](id_scores, ood_scores, convention="openood")
                assert found == pytest.approx(auc(recall, precision), abs=1e-12)
            false_rate, true_rate, _ = roc_curve(1 - labels, -ranked, drop_intermediate=False)
            expected = false_rate[np.argmax(true_rate >= 0.95 - 1e-12)]
            assert fpr_at_tpr(id_scores, ood_scores, convention="openood") == pytest.approx(expected, abs=1e-12)

    def test_every_metric_with_sides_says_what_it_is(self):
        assert set(MEANINGS) == {
            (name, convention) for name in METRICS if name != "auroc" for convention in CONVENTIONS
        }


class TestCorners:
    @pytest.mark.parametrize("value", [0.0, -7.5, INF, -INF])
    def test_where_all_scores_are_equal(self, value):
        id_scores, ood_scores = [value] * 3, [value] * 5
        assert auroc(id_scores, ood_scores) == 0.5
        assert aupr_in(id_scores, ood_scores) == 3 / 8
        assert aupr_out(id_scores, ood_scores) == 5 / 8
        assert fpr_at_tpr(id_scores, ood_scores) == 1
        assert detection_threshold(id_scores, ood_scores) == value
        assert detection_accuracy(id_scores, ood_scores, value) == 0.5
        assert [rate.tolist() for rate in roc(id_scores, ood_scores)] == [[0, 1], [0, 1]]

    @pytest.mark.parametrize(
        ("id_scores", "ood_scores", "expected"),
        [(1.0, 0.0, (1, 1, 1, 0)), (0.0, 1.0, (0, 0.5, 0.5, 1)), (1.0, 1.0, (0.5, 0.5, 0.5, 1))],
    )
    def test_one_sample_per_side(self, id_scores, ood_scores, expected):
        assert tuple(metric([id_scores], [ood_scores]) for metric in THRESHOLD_FREE) == expected

    def test_perfect_separation_and_its_opposite(self):
        high, low = np.arange(10.0, 15.0), np.arange(5.0)
        assert [metric(high, low) for metric in THRESHOLD_FREE] == [1, 1, 1, 0]
        assert detection_accuracy(high, low, detection_threshold(high, low)) == 1
        assert auroc(low, high) == 0
        assert fpr_at_tpr(low, high) == 1

    def test_infinite_scores_are_the_ends_of_the_scale(self):
        assert auroc([INF, 0.0], [-INF, 0.0]) == 3.5 / 4
        assert fpr_at_tpr([INF, INF], [-INF, 1e308]) == 0
        assert detection_threshold([INF, INF], [-INF, 1e308]) == INF

    def test_neighbouring_floats_are_not_equal(self):
        assert auroc([np.nextafter(1.0, 2.0)], [1.0]) == 1

    def test_zeros_of_either_sign_are_equal(self):
        assert auroc([0.0], [-0.0]) == 0.5

    @pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint8", "int64", "bool"])
    def test_scores_of_any_type_of_number(self, dtype):
        assert auroc(np.array([1, 1], dtype), np.array([0, 1], dtype)) == 0.75

    @pytest.mark.parametrize("metric", [aupr_in, aupr_out, fpr_at_tpr])
    @pytest.mark.parametrize("convention", ["OpenOOD", "guo", None, 1])
    def test_another_convention_is_refused(self, metric, convention):
        with pytest.raises(ValueError, match=r"`convention` must be one of 'odin', 'openood'\. Received: convention="):
            metric([1.0], [0.0], convention=convention)

    @pytest.mark.parametrize(
        "weights", [([1.0, 1.0], [[1.0], [1.0]]), ([[1.0, 1.0]] * 2, [[1.0]] * 3), np.ones(3), np.ones((3, 2))]
    )
    def test_weights_that_do_not_fit_together_are_refused_by_name(self, weights):
        with pytest.raises(ValueError, match="`sample_weight`"):
            auroc([1.0, 2.0], [0.0], sample_weight=weights)

    def test_arguments_are_left_alone(self):
        id_scores, ood_scores = np.array([2.0, 1.0, 3.0]), np.array([1.0, 0.0])
        for metric in ALL:
            metric(id_scores, ood_scores)
        interval(auroc, id_scores, ood_scores, n=3)
        assert (id_scores.tolist(), ood_scores.tolist()) == ([2, 1, 3], [1, 0])
