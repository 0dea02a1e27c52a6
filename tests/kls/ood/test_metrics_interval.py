import numpy as np
import pytest
from scipy import stats

from kls.ood import METRICS, aupr_in, aupr_out, auroc, detection_accuracy, fpr_at_tpr, interval


class TestInterval:
    def sides(self, n=80, m=60, seed=0):
        rng = np.random.default_rng(seed)
        return rng.normal(1, 1, n), rng.normal(0, 1, m)

    @pytest.mark.parametrize("metric", [auroc, aupr_in, aupr_out])
    def test_holds_the_value_and_is_the_same_for_the_same_seed(self, metric):
        id_scores, ood_scores = self.sides()
        found = interval(metric, id_scores, ood_scores, n=200, seed=3)
        assert found == interval(metric, id_scores, ood_scores, n=200, seed=3)
        assert found != interval(metric, id_scores, ood_scores, n=200, seed=4)
        assert found.value == pytest.approx(metric(id_scores, ood_scores), rel=1e-12)
        assert 0 <= found.low < found.value < found.high <= 1
        assert (found.n, found.level, found.method) == (200, 0.95, "bootstrap")

    @pytest.mark.parametrize("metric", METRICS.values())
    def test_is_never_empty_and_never_without_its_value(self, metric):
        for seed in range(40):
            rng = np.random.default_rng(seed)
            id_scores, ood_scores = self.sides(*rng.integers(1, 60, 2), seed=seed)
            found = interval(metric, id_scores.round(1), ood_scores.round(1), n=100)
            assert 0 <= found.low <= found.value <= found.high <= 1, (seed, str(found))

    def test_a_perfect_rate_is_not_certain(self):
        found = interval(fpr_at_tpr, np.arange(1000.0, 1200.0), np.arange(50.0))
        assert (found.value, found.low) == (0, 0)
        assert found.high == pytest.approx(1 - 0.025 ** (1 / 50))  # none of 50, by hand
        assert (found.n, found.method) == (0, "Clopper-Pearson, order statistics")

    def test_a_perfect_detection_accuracy_is_not_certain(self):
        found = interval(detection_accuracy, np.full(50, 2.0), np.zeros(50), threshold=1.0)
        one_side = 1 - 0.025 ** (1 / 50)
        assert (found.value, found.high, found.n) == (1, 1, 0)
        assert found.low == pytest.approx(1 - one_side / np.sqrt(2))

    def test_the_ends_of_a_rate_by_hand(self):
        id_scores, ood_scores = np.arange(100.0), np.arange(-50.0, 50.0)
        below = stats.binom(100, 0.05)
        first = next(k for k in range(101) if below.cdf(k) >= 0.025)  # 1
        last = next(k for k in range(101) if below.sf(k) <= 0.025)  # 10
        passing = [(ood_scores >= end).mean() for end in (first - 1, 5, last)]
        share = stats.binomtest(45, 100).proportion_ci(method="exact")
        found = interval(fpr_at_tpr, id_scores, ood_scores)
        assert found.value == passing[1] == 0.45
        assert found.low == pytest.approx(0.45 - np.hypot(0.45 - share.low, 0.45 - passing[2]))
        assert found.high == pytest.approx(0.45 + np.hypot(share.high - 0.45, passing[0] - 0.45))

    def test_of_too_few_samples_for_a_threshold_may_end_at_1(self):
        assert interval(fpr_at_tpr, np.arange(71.0), np.full(100, -1.0)).high == 1
        assert interval(fpr_at_tpr, np.arange(73.0), np.full(100, -1.0)).high < 0.05

    @pytest.mark.parametrize("tpr", [0.5, 0.95, 1.0])
    def test_openoods_rate_has_the_interval_of_the_sides_changed(self, tpr):
        id_scores, ood_scores = self.sides()
        found = interval(fpr_at_tpr, id_scores, ood_scores, tpr=tpr, convention="openood")
        assert found == interval(fpr_at_tpr, -ood_scores, -id_scores, tpr=tpr)
        assert found.value == fpr_at_tpr(id_scores, ood_scores, tpr, convention="openood")

    @pytest.mark.parametrize("shift", [3.5, 2.5, 1.0])
    def test_a_rate_is_covered_as_often_as_the_level_says(self, shift):
        true = stats.norm.sf(stats.norm.ppf(0.05, shift))
        rng, covered = np.random.default_rng(0), 0
        for _ in range(200):
            found = interval(fpr_at_tpr, rng.normal(shift, 1, 150), rng.normal(0, 1, 150))
            covered += found.low <= true <= found.high
        assert covered >= 185  # the 5 % quantile of what a 95 % interval holds of 200

    def test_of_a_rare_event_still_holds_its_value(self):
        # A resample draws six or more of the two low samples once in sixty: 0 at both quantiles, not in the mean.
        id_scores, ood_scores = np.r_[0.0, 0.0, np.full(98, 2.0)], np.ones(50)
        found = interval(fpr_at_tpr, id_scores, ood_scores)
        assert found.value == 0
        assert 0 <= found.low <= found.value <= found.high

    def test_has_the_width_of_the_normal_approximation(self):
        id_scores, ood_scores = self.sides(400, 400)
        pairs = (id_scores[:, None] > ood_scores).astype(float)
        spread = np.sqrt(pairs.mean(axis=1).var() / 400 + pairs.mean(axis=0).var() / 400)
        found = interval(auroc, id_scores, ood_scores, n=1000)
        assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.1)

    def test_resamples_each_side_on_its_own(self):
        found = interval(aupr_in, [1.0] * 3, [1.0] * 5, n=50)
        assert (found.low, found.value, found.high) == pytest.approx((3 / 8, 3 / 8, 3 / 8))

    def test_a_wider_level_is_a_wider_interval(self):
        narrow, wide = (interval(auroc, *self.sides(), n=200, level=level) for level in (0.5, 0.99))
        assert wide.low < narrow.low < narrow.high < wide.high

    def test_passes_further_arguments_on(self):
        id_scores, ood_scores = self.sides()
        found = interval(fpr_at_tpr, id_scores, ood_scores, n=50, tpr=0.5)
        assert found.value == fpr_at_tpr(id_scores, ood_scores, tpr=0.5)
        found = interval(detection_accuracy, id_scores, ood_scores, n=50, threshold=0.5)
        assert found.value == detection_accuracy(id_scores, ood_scores, 0.5)

    def test_does_not_depend_on_how_many_resamples_fit_into_memory(self, monkeypatch):
        id_scores, ood_scores = self.sides()
        expected = interval(auroc, id_scores, ood_scores, n=20)
        monkeypatch.setattr("kls.utils.bootstrap.CHUNK", 140 * 20)
        assert interval(auroc, id_scores, ood_scores, n=20) == expected
        monkeypatch.setattr("kls.utils.bootstrap.CHUNK", 1)
        few = interval(auroc, id_scores, ood_scores, n=20)
        assert few.low < few.value < few.high
