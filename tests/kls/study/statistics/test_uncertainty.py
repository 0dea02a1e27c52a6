from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kls.study.statistics.networks import Means
from kls.study.statistics.uncertainty import Uncertainty, simultaneous_level, uncertainties

variances = st.floats(0, 10)


def of_table(table, **options):
    """Returns the `Uncertainty` of a table of differences of shape `(n, N)`."""
    (found,) = uncertainties(
        table.mean(axis=1)[None], np.zeros(len(table)), Means(table).covariance(), table.shape[1], **options
    )
    return found


class TestUncertainties:
    def test_parts_are_mean_squares_of_a_crossed_table_by_hand(self):
        # rows (seeds) have the means 2 and 4, columns (images) 2, 3 and 4, all 3; residuals -1 0 1 / 1 0 -1
        found = of_table(np.array([[0.0, 2, 4], [4, 4, 4]]))
        mean_square_seeds, mean_square_images, mean_square_error = 6.0, 2.0, 2.0
        assert found.seeds == pytest.approx(mean_square_seeds / 6)
        assert found.images == pytest.approx(mean_square_images / 6)
        assert found.residual == pytest.approx(mean_square_error / 6)
        assert found.standard_error == pytest.approx(1.0)
        assert found.half_width(0.95) == pytest.approx(stats.t.isf(0.025, 1) * 1.0)

    def test_methods_are_taken_apart(self):
        tables = np.random.default_rng(0).normal(size=(3, 4, 50))
        covariance = Means(tables.reshape(12, 50)).covariance()
        for found, table in zip(uncertainties(tables.mean(axis=2), np.zeros(12), covariance, 50), tables, strict=True):
            assert astuple(found) == pytest.approx(astuple(of_table(table)))

    def test_parts_are_unbiased_for_the_variance_of_the_mean(self):
        rng, n, size, found = np.random.default_rng(0), 4, 30, []
        for _ in range(1000):
            table = 0.3 * rng.normal(size=(n, 1)) + rng.normal(size=size) + 0.8 * rng.normal(size=(n, size))
            part = of_table(table)
            found.append(part.seeds + part.images - part.residual)
        assert np.mean(found) == pytest.approx(0.09 / n + 1 / size + 0.64 / (n * size), rel=0.05)

    def test_one_seed_knows_images_alone(self):
        table = np.random.default_rng(0).normal(size=(1, 40))
        found = of_table(table)
        assert (found.seeds, found.residual) == (0.0, 0.0)
        low, high = stats.ttest_1samp(table[0], 0).confidence_interval(0.9)
        assert found.half_width(0.9) == pytest.approx((high - low) / 2)

    def test_bootstrapped_residuals_are_not_taken_off(self):
        table = np.random.default_rng(0).normal(size=(3, 40))
        assert of_table(table, resampled=True).residual == 0
        assert of_table(table, resampled=True).half_width(0.95) > of_table(table).half_width(0.95)

    def test_a_variance_that_is_0_but_for_rounding_is_0(self):
        (found,) = uncertainties(np.zeros((1, 2)), np.zeros(2), np.full((2, 2), -1e-20), 100)
        assert found.half_width(0.95) == found.standard_error == 0

    def test_unseen_images_add_their_variance(self):
        none = np.zeros((3, 100))
        assert of_table(none, unseen=2).standard_error == pytest.approx(np.std([1, -1, *np.zeros(98)]) / 10)


class TestHalfWidth:
    def test_without_variance_of_images_it_is_the_paired_t_test(self):
        first, second = np.random.default_rng(0).normal(size=(2, 5))
        found = of_table(np.repeat((first - second)[:, None], 20, axis=1))
        low, high = stats.ttest_rel(first, second).confidence_interval(0.95)
        assert found.half_width(0.95) == pytest.approx((high - low) / 2)

    def test_without_variance_of_seeds_it_is_the_t_test_over_images(self):
        images = np.random.default_rng(0).normal(size=50)
        low, high = stats.ttest_1samp(images, 0).confidence_interval(0.95)
        assert of_table(np.tile(images, (3, 1))).half_width(0.95) == pytest.approx((high - low) / 2)

    @given(variances, variances, variances, st.integers(2, 20), st.integers(2, 1000))
    @settings(max_examples=25, deadline=None)
    def test_it_is_never_less_than_for_seeds_or_images_alone(self, seeds, images, residual, n, size):
        half = Uncertainty(n, size, seeds, images, residual).half_width(0.95)
        assert half >= stats.t.isf(0.025, size - 1) * np.sqrt(images) * (1 - 1e-12)
        assert half >= stats.t.isf(0.025, n - 1) * np.sqrt(seeds) * (1 - 1e-12)
        assert half >= Uncertainty(n, size, seeds, images, residual).half_width(0.9)

    @pytest.mark.parametrize("n", [2, 3])
    @pytest.mark.parametrize(("of_seeds", "of_both"), [(0.8, 0.0), (0.0, 0.9), (0.4, 0.3)])
    def test_it_holds_for_new_seeds_and_images(self, n, of_seeds, of_both):
        """Mean squares of normal variables are chi-square; shares of the mean's variance by their cause."""
        rng, repetitions, size = np.random.default_rng([n, int(10 * of_seeds), int(10 * of_both)]), 800, 500
        of_images = 1 - of_seeds - of_both
        means, cells = rng.normal(size=repetitions), (n - 1) * (size - 1)
        seeds = (of_seeds + of_both) * rng.chisquare(n - 1, repetitions) / (n - 1)
        images = (of_images + of_both) * rng.chisquare(size - 1, repetitions) / (size - 1)
        residual = of_both * rng.chisquare(cells, repetitions) / cells
        held = [
            abs(mean) <= Uncertainty(n, size, *parts).half_width(0.95)
            for mean, *parts in zip(means, seeds, images, residual, strict=True)
        ]
        assert stats.binom.ppf(1e-4, repetitions, 0.95) <= sum(held)


class TestReach:
    def test_without_bias_it_is_the_half_width_either_way(self):
        found = Uncertainty(3, 100, 1.0, 2.0, 0.5)
        assert found.reach(0.9) == (found.half_width(0.9), found.half_width(0.9))

    @pytest.mark.parametrize("bias", [0.5, -0.5])
    def test_it_goes_on_around_the_difference_without_its_bias(self, bias):
        found = Uncertainty(3, 100, 1.0, 2.0, 0.5, bias)
        below, above = found.reach(0.9)
        assert -below == min(0, -bias) - found.half_width(0.9)
        assert above == max(0, -bias) + found.half_width(0.9)

    def test_more_images_have_less_bias(self):
        assert Uncertainty(3, 100, 1.0, 2.0, 0.5, -0.4).with_others(7, 400).bias == pytest.approx(-0.2)


class TestNeeded:
    found = Uncertainty(n=3, size=1000, seeds=4e-6, images=9e-6, residual=2e-6)

    def test_expected_parts_follow_the_model(self):
        expected = self.found.with_others(6, 4000)
        assert expected.residual == pytest.approx(2e-6 / 8)
        assert expected.seeds == pytest.approx(2e-6 / 2 + 2e-6 / 8)
        assert expected.images == pytest.approx(7e-6 / 4 + 2e-6 / 8)
        same = self.found.with_others(3, 1000)
        assert same.half_width(0.95) == pytest.approx(self.found.half_width(0.95))

    def test_seeds_needed_are_the_fewest_that_are_enough(self):
        found = self.found.seeds_needed(0.014, 0.95)
        assert sum(self.found.reach(0.95)) > 0.014
        assert sum(self.found.with_others(found, 1000).reach(0.95)) <= 0.014
        assert sum(self.found.with_others(found - 1, 1000).reach(0.95)) > 0.014

    @pytest.mark.parametrize("bias", [0.0, -0.004])
    def test_images_needed_are_the_fewest_that_are_enough(self, bias):
        biased = replace(self.found, bias=bias)
        found = biased.images_needed(0.016, 0.95)
        assert sum(biased.with_others(3, found).reach(0.95)) <= 0.016
        assert sum(biased.with_others(3, found - 1).reach(0.95)) > 0.016

    def test_none_where_one_of_them_alone_is_not_enough(self):
        assert self.found.seeds_needed(0.010, 0.95) is None  # below 2 * 1.96 sqrt(7e-6)
        assert self.found.images_needed(0.012, 0.95) is None  # below 2 * 4.3 sqrt(2e-6)

    def test_one_seed_tells_nothing_of_others(self):
        single = Uncertainty(1, 1000, 0.0, 1e-5, 0.0)
        assert single.seeds_needed(0.1, 0.95) is None
        assert single.images_needed(0.1, 0.95) is None


class TestSimultaneousLevel:
    @staticmethod
    def level(correlation, seeds=0.0, methods=4, level=0.95):
        covariance = correlation + (1 - correlation) * np.eye(methods)
        found = [Uncertainty(2, 100, seeds, 1.0, 0.0)] * methods
        return simultaneous_level(found, np.kron(covariance, np.ones((2, 2))), level, seed=0)

    def test_one_method_keeps_the_level(self):
        assert self.level(0.0, methods=1) == 0.95

    def test_methods_that_move_as_one_keep_the_level(self):
        assert self.level(1.0) == pytest.approx(0.95, abs=0.003)

    def test_independent_methods_need_sidaks(self):
        assert self.level(0.0) == pytest.approx(0.95 ** (1 / 4), abs=0.002)

    def test_with_a_common_baseline_it_is_dunnetts(self):
        dunnett = stats.multivariate_normal(np.zeros(4), 0.5 + 0.5 * np.eye(4))
        z = stats.norm.isf((1 - self.level(0.5)) / 2)
        inside = dunnett.cdf(np.full(4, z), lower_limit=np.full(4, -z))
        assert inside == pytest.approx(0.95, abs=0.004)

    def test_seeds_are_taken_as_uncorrelated(self):
        assert self.level(1.0) < self.level(1.0, seeds=1.0) < self.level(1.0, seeds=100.0) <= 1 - 0.05 / 4

    def test_methods_without_variance_count_for_nothing(self):
        found = [Uncertainty(1, 100, 0.0, variance, 0.0) for variance in (1.0, 0.0)]
        assert simultaneous_level(found, np.diag([1.0, 0.0]), 0.95, seed=0) == 0.95
