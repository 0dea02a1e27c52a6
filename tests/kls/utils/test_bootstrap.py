import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kls.calibration import METRICS, accuracy, interval, negative_log_likelihood
from kls.utils.bootstrap import Interval, interval_of, percentile_interval, resample

pytestmark = pytest.mark.filterwarnings("error")


RESAMPLED = [name for name in METRICS if name not in ("accuracy", "ece", "uce")]


def mean_of(values):
    """Returns the metric that is the weighted mean of values."""
    return lambda weights: weights @ values / weights.sum(axis=1)


def sample(n=120, k=4, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), size=n)
    return np.where(rng.random(n) < 0.6, p.argmax(axis=1), rng.integers(k, size=n)), p


class TestResample:
    def test_every_resample_has_as_many_samples_as_the_set(self):
        drawn = resample(np.random.default_rng(0), 50, 30)
        assert drawn.shape == (50, 30)
        assert drawn.dtype == np.float64
        assert (drawn.sum(axis=1) == 30).all()
        assert (drawn >= 0).all()
        assert (drawn == np.floor(drawn)).all()

    def test_counts_are_multinomial(self):
        size = 20
        drawn = resample(np.random.default_rng(0), 20_000, size)
        np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.04)
        np.testing.assert_allclose(drawn.var(axis=0), 1 - 1 / size, atol=0.06)
        np.testing.assert_allclose((drawn == 0).mean(), (1 - 1 / size) ** size, atol=0.005)
        off_diagonal = np.cov(drawn.T)[~np.eye(size, dtype=bool)]
        np.testing.assert_allclose(off_diagonal, -1 / size, atol=0.04)

    def test_one_sample_is_drawn_once(self):
        assert resample(np.random.default_rng(0), 3, 1).tolist() == [[1.0]] * 3

    def test_no_two_rows_are_one_draw(self):
        assert len(np.unique(resample(np.random.default_rng(0), 100, 50), axis=0)) == 100


class TestPercentileInterval:
    VALUES = np.random.default_rng(1).gamma(2.0, size=80)

    def test_its_ends_are_percentiles_less_the_bias(self):
        drawn = []

        def metric(weights):
            drawn.extend(found := (weights @ self.VALUES / 80) ** 2)
            return np.array(found)

        found = percentile_interval(metric, [80], 500, 0.9, seed=3)
        value, *resampled = drawn
        assert len(resampled) == 500
        assert found.value == value == pytest.approx(self.VALUES.mean() ** 2)
        bias = np.mean(resampled) - value
        assert found.low == pytest.approx(np.percentile(resampled, 5, method="inverted_cdf") - bias, rel=1e-12)
        assert found.high == pytest.approx(np.percentile(resampled, 95, method="inverted_cdf") - bias, rel=1e-12)
        assert (found.level, found.n) == (0.9, 500)

    @pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
    def test_of_a_mean_is_that_of_the_normal_approximation_and_of_scipy(self, level):
        found = percentile_interval(mean_of(self.VALUES), [80], 4000, level, seed=0)
        half = stats.norm.ppf((1 + level) / 2) * self.VALUES.std() / math.sqrt(80)
        assert found.low == pytest.approx(self.VALUES.mean() - half, abs=0.15 * half)
        assert found.high == pytest.approx(self.VALUES.mean() + half, abs=0.15 * half)
        theirs = stats.bootstrap(
            (self.VALUES,), np.mean, n_resamples=4000, method="percentile", confidence_level=level, rng=0
        ).confidence_interval
        assert (found.low, found.high) == pytest.approx(tuple(theirs), abs=0.1 * half)

    def test_covers_the_true_mean_as_often_as_its_level_says(self):
        rng = np.random.default_rng(0)
        covered = 0
        for trial in range(300):
            values = rng.random(100)
            found = percentile_interval(mean_of(values), [100], 200, 0.9, seed=trial)
            covered += found.low <= 0.5 <= found.high
        assert 0.84 < covered / 300 < 0.95

    def test_several_sets_are_resampled_each_on_its_own(self):
        shapes = []

        def metric(first, second):
            shapes.append((first.shape, second.shape))
            assert (first.sum(axis=1) == 5).all()
            assert (second.sum(axis=1) == 3).all()
            return first[:, 0] + second[:, 0]

        found = percentile_interval(metric, [5, 3], 40, 0.9, seed=0)
        assert shapes == [((1, 5), (1, 3)), ((40, 5), (40, 3))]
        assert found.value == 2.0

    def test_the_ends_stay_where_the_metric_can_be(self):
        rare = np.r_[np.ones(1), np.zeros(9)]
        for seed in range(10):
            assert percentile_interval(mean_of(rare), [10], 300, 0.99, seed).low >= 0
            assert percentile_interval(mean_of(1 - rare), [10], 300, 0.99, seed).high <= 1
        constant = percentile_interval(mean_of(np.full(10, 0.25)), [10], 50, 0.95, seed=0)
        assert (constant.low, constant.value, constant.high) == pytest.approx((0.25, 0.25, 0.25))

    def test_one_resample_is_enough_for_an_interval(self):
        found = percentile_interval(mean_of(self.VALUES), [80], 1, 0.95, seed=0)
        assert found.low <= found.value * (1 + 1e-12)
        assert found.high >= found.value * (1 - 1e-12)


class TestIntervalOf:
    DRAWN = np.random.default_rng(2).normal(-3.0, 1.0, 801)

    @pytest.mark.parametrize(("level", "first", "last"), [(0.5, 200, 600), (0.9, 40, 760), (0.95, 20, 780)])
    def test_negative_values_have_the_ends_of_their_order_less_the_bias(self, level, first, last):
        value = -2.8
        found = interval_of(value, self.DRAWN, level)
        ordered = sorted(self.DRAWN)
        bias = sum(ordered) / 801 - value
        assert (found.low, found.high) == pytest.approx((ordered[first] - bias, ordered[last] - bias), rel=1e-12)
        assert (found.value, found.level, found.n) == (value, level, 801)
        assert found.low < value < found.high < 0

    def test_an_interval_may_hold_0(self):
        found = interval_of(0.0, self.DRAWN + 3.0)
        assert found.low == pytest.approx(-1.96, abs=0.2)
        assert found.high == pytest.approx(1.96, abs=0.2)

    def test_the_level_is_095_by_default(self):
        assert interval_of(-3.0, self.DRAWN) == interval_of(-3.0, self.DRAWN, 0.95)

    def test_the_lowest_possible_value_bounds_it(self):
        assert interval_of(0.0, self.DRAWN + 3.0, lowest=0.0).low == 0.0
        assert interval_of(-3.0, self.DRAWN, lowest=-3.5).low == -3.5
        assert interval_of(-3.0, self.DRAWN, lowest=-99.0) == interval_of(-3.0, self.DRAWN)

    @pytest.mark.parametrize("value", [-0.3, 0.0, 0.1])
    def test_what_is_the_same_on_every_resample_is_a_point(self, value):
        found = interval_of(value, np.full(100, value))
        assert (found.low, found.value, found.high) == pytest.approx((value,) * 3, abs=1e-15)

    @settings(max_examples=100)
    @given(
        value=st.floats(-5, 5),
        drawn=st.lists(st.floats(-5, 5), min_size=1, max_size=20).map(np.array),
        level=st.floats(0.01, 0.99),
        step=st.floats(0, 3),
    )
    def test_it_holds_the_value_and_no_more_than_was_seen(self, value, drawn, level, step):
        found = interval_of(value, drawn, level, lowest=value - step)
        assert value - step <= found.low <= value <= found.high <= max(value, drawn.max())


class TestInterval:
    def test_reads_as_a_number_and_its_ends(self):
        assert str(Interval(0.123456, 0.1, 0.2, 0.95, 1000)) == "0.1235 [0.1000, 0.2000]"

    @pytest.mark.parametrize("name", METRICS)
    @pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
    def test_the_value_is_that_of_all_samples_and_lies_within(self, name, level):
        labels, p = sample()
        found = interval(METRICS[name], labels, p, n=200, level=level)
        assert found.value == pytest.approx(METRICS[name](labels, p), rel=1e-12)
        assert 0 <= found.low <= found.value <= found.high
        assert found.high <= {"brier": 2, "nll": math.inf}.get(name, 1)
        assert (found.level, found.n) == (level, 200 if name in RESAMPLED else 0)

    @pytest.mark.parametrize("name", METRICS)
    def test_the_ends_are_numbers_of_python(self, name):
        labels, p = sample(n=20)
        found = interval(METRICS[name], labels, p, n=5)
        assert {type(number) for number in (found.value, found.low, found.high)} == {float}

    @pytest.mark.parametrize("name", RESAMPLED)
    def test_a_seed_is_one_interval(self, name):
        labels, p = sample()
        find = partial(interval, METRICS[name], labels, p, n=40)
        assert find(seed=1) == find(seed=1)
        assert find(seed=1) != find(seed=2)
        assert find() == find(seed=0)

    @pytest.mark.parametrize("name", METRICS)
    def test_a_higher_level_is_wider(self, name):
        labels, p = sample()
        found = [interval(METRICS[name], labels, p, n=200, level=level) for level in (0.1, 0.5, 0.9, 0.99)]
        lows, highs = [one.low for one in found], [one.high for one in found]
        assert lows == sorted(lows, reverse=True)
        assert highs == sorted(highs)

    def test_options_reach_the_measure(self):
        labels, p = sample()
        options = {"bins": 4, "binning": "mass", "norm": 2}
        found = interval(METRICS["ece"], labels, p, n=20, **options)
        assert found.value == pytest.approx(METRICS["ece"](labels, p, **options))
        logits = interval(METRICS["ece"], labels, np.log(p), n=20, from_logits=True, **options)
        assert (logits.value, logits.low, logits.high) == pytest.approx((found.value, found.low, found.high), rel=1e-9)

    @settings(max_examples=60)
    @given(
        level=st.sampled_from([0.01, 0.1, 0.3, 0.5, 0.8, 0.95]),
        share=st.sampled_from([0.5, 0.75, 0.9]),
        n=st.integers(1, 30),
        name=st.sampled_from(list(METRICS)),
    )
    def test_the_value_lies_within_at_any_level(self, level, share, n, name):
        labels = (np.arange(n) >= share * n).astype(int)
        found = interval(METRICS[name], labels, np.full((n, 2), [share, 1 - share]), n=30, level=level)
        assert 0 <= found.low <= found.value <= found.high

    def test_an_infinite_likelihood_makes_no_nan(self):
        p = [[1.0, 0.0], [0.5, 0.5], [0.6, 0.4], [0.7, 0.3]]
        found = interval(negative_log_likelihood, [1, 1, 0, 0], p, n=200)
        assert found.value == math.inf
        assert found.high == math.inf
        assert not math.isnan(found.low)

    def test_certainty_is_a_point(self):
        labels = np.arange(30) % 3
        for name in RESAMPLED:
            found = interval(METRICS[name], labels, np.eye(3)[labels], n=20)
            assert (found.low, found.value, found.high) == (0.0, 0.0, 0.0)

    def test_one_sample(self):
        for name in RESAMPLED:
            found = interval(METRICS[name], [0], [[0.7, 0.3]], n=5)
            assert (found.low, found.high) == pytest.approx((found.value, found.value))

    def test_no_sample_is_refused(self):
        with pytest.raises(ValueError, match=r"`probabilities` must be of shape \(N, K\) with N >= 1"):
            interval(accuracy, [], np.zeros((0, 3)))

    @pytest.mark.parametrize("name", METRICS)
    def test_a_class_that_a_resample_misses(self, name):
        p = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]
        found = interval(METRICS[name], [0, 0, 1], p, n=50)
        assert math.isfinite(found.low)
        assert math.isfinite(found.high)

    def test_a_class_that_a_resample_has_not_above_the_threshold(self):
        options = {"binning": "mass", "threshold": 0.5}
        found = interval(METRICS["classwise"], [0, 0, 1], [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], n=50, **options)
        assert 0 <= found.low <= found.value <= found.high <= 1
