import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from kls.calibration import expected_calibration_error, interval
from kls.calibration.reliability import (
    check_binning,
    error_interval,
    mass_bins,
    reliability,
    width_bins,
    width_edges,
)

pytestmark = pytest.mark.filterwarnings("error")

CONVENTIONS = ("guo", "netcal", "torchmetrics")


def index_by_definition(value, bins, convention):
    """Returns the bin of a value in exact arithmetic; a value that is the float closest to j/B is taken as j/B."""
    exact = Fraction(float(value))
    for j in range(bins + 1):
        if value == np.dtype(value.dtype).type(j / bins):
            exact = Fraction(j, bins)
    if convention == "guo":
        return max(math.ceil(exact * bins) - 1, 0)
    return min(math.floor(exact * bins), bins if convention == "torchmetrics" else bins - 1)


class TestWidthBins:
    @pytest.mark.parametrize(
        ("convention", "expected", "count"),
        [
            ("guo", [0, 0, 0, 1, 1, 3, 3], 4),
            ("netcal", [0, 0, 1, 1, 2, 3, 3], 4),
            ("torchmetrics", [0, 0, 1, 1, 2, 3, 4], 5),
        ],
    )
    def test_by_hand(self, convention, expected, count):
        values = np.array([0, 0.1, 0.25, 0.26, 0.5, 0.99, 1])
        index, bins = width_bins(values, 4, convention)
        assert (index.tolist(), bins) == (expected, count)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("bins", [1, 2, 3, 7, 10, 15, 20, 49, 100])
    def test_every_edge_and_its_neighbours(self, bins, dtype):
        edges = np.array([j / bins for j in range(bins + 1)], dtype)
        inside = [np.nextafter(edges[1:], edges.dtype.type(0)), np.nextafter(edges[:-1], edges.dtype.type(1))]
        values = np.concatenate([edges, *inside])
        for convention in CONVENTIONS:
            expected = [index_by_definition(value, bins, convention) for value in values]
            assert width_bins(values, bins, convention)[0].tolist() == expected

    @settings(max_examples=50)
    @given(
        values=arrays(np.float64, 5, elements=st.floats(0, 1)),
        bins=st.integers(1, 60),
        convention=st.sampled_from(CONVENTIONS),
        dtype=st.sampled_from(["float32", "float64"]),
    )
    def test_any_value(self, values, bins, convention, dtype):
        values = values.astype(dtype)
        index, count = width_bins(values, bins, convention)
        assert index.tolist() == [index_by_definition(value, bins, convention) for value in values]
        assert count == bins + (convention == "torchmetrics")

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_edges_are_the_floats_closest_to_the_fractions(self, dtype):
        for bins in (1, 3, 10, 15, 20, 49):
            edges = width_edges(bins, dtype)
            assert edges.dtype == dtype
            assert edges.tolist() == [float(np.dtype(dtype).type(j / bins)) for j in range(bins + 1)]

    def test_an_edge_that_linspace_places_above_is_where_its_number_says(self):
        assert np.linspace(0, 1, 11)[3] > 0.3
        assert width_bins(np.array([0.3]), 10, "netcal")[0].tolist() == [3]
        assert width_bins(np.array([0.3]), 10, "guo")[0].tolist() == [2]


class TestMassBins:
    @pytest.mark.parametrize(
        ("values", "bins", "expected"),
        [
            ([0.1, 0.2, 0.3, 0.4], 2, [0, 0, 1, 1]),
            ([0.4, 0.1, 0.3, 0.2], 2, [1, 0, 1, 0]),
            ([0.1, 0.2, 0.3, 0.4], 4, [0, 1, 2, 3]),
            ([0.1, 0.2, 0.3], 2, [0, 0, 1]),
            ([0.1, 0.2, 0.3, 0.4, 0.5], 3, [0, 0, 1, 1, 2]),
            ([0.1, 0.5, 0.5, 0.5], 4, [0, 1, 1, 1]),
            ([0.5, 0.5, 0.5, 0.9], 4, [0, 0, 0, 3]),
            ([0.5, 0.5, 0.5, 0.5], 4, [0, 0, 0, 0]),
            ([0.7], 5, [0]),
            ([0.1, 0.2], 7, [0, 3]),
        ],
    )
    def test_by_hand(self, values, bins, expected):
        assert mass_bins(np.array(values), np.ones(len(values)), bins).tolist() == expected

    @pytest.mark.parametrize("bins", [3, 7, 10, 15, 49])
    def test_distinct_values_fill_bins_evenly_whatever_rounding_does(self, bins):
        values = np.random.default_rng(0).permutation(3 * bins) / (3 * bins)
        index = mass_bins(values, np.full(len(values), 0.1), bins)
        assert np.bincount(index).tolist() == [3] * bins

    @settings(max_examples=60)
    @given(
        values=st.lists(st.integers(0, 6), min_size=1, max_size=15),
        bins=st.integers(1, 8),
        data=st.data(),
    )
    def test_is_the_share_strictly_below_times_the_bins(self, values, bins, data):
        counts = data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values)).filter(any))
        index = mass_bins(np.array(values) / 8, np.array(counts, float), bins)
        for value, found in zip(values, index, strict=True):
            below = sum(count for other, count in zip(values, counts, strict=True) if other < value)
            assert found == min(Fraction(below, sum(counts)) * bins // 1, bins - 1)

    def test_every_row_of_weights_has_bins_of_its_own(self):
        values = np.array([0.1, 0.2, 0.3, 0.4])
        weights = np.array([[1.0, 1, 1, 1], [3, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 0]])
        index = mass_bins(values, weights, 2)
        assert index.tolist() == [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1]]


class TestReliability:
    VALUES = np.array([0.1, 0.2, 0.9, 0.6])
    OUTCOMES = np.array([False, True, True, False])

    def test_sums_by_hand(self):
        found = reliability(self.VALUES, self.OUTCOMES, np.array([1.0, 3, 2, 2]), bins=2)
        np.testing.assert_allclose(found.weight, [4, 4])
        np.testing.assert_allclose(found.confidence, [0.175, 0.75])
        np.testing.assert_allclose(found.accuracy, [0.75, 0.5])
        np.testing.assert_allclose(found.gap, [0.575, -0.25])
        np.testing.assert_allclose(found.share, [0.5, 0.5])
        np.testing.assert_allclose(found.error(), 0.4125)
        np.testing.assert_allclose(found.error(2), math.sqrt((0.575**2 + 0.25**2) / 2))
        np.testing.assert_allclose(found.error("max"), 0.575)

    def test_an_empty_bin_is_zero_everywhere(self):
        found = reliability(self.VALUES, self.OUTCOMES, np.ones(4), bins=10)
        empty = found.weight == 0
        assert empty.sum() == 6
        for array in (found.confidence, found.accuracy, found.gap, found.share):
            assert not array[empty].any()

    @pytest.mark.parametrize("binning", ["width", "mass"])
    def test_rows_of_weights(self, binning):
        weights = np.random.default_rng(0).integers(0, 4, (3, 4)) + np.eye(3, 4)
        together = reliability(self.VALUES, self.OUTCOMES, weights, 3, binning)
        for row in range(3):
            alone = reliability(self.VALUES, self.OUTCOMES, weights[row], 3, binning)
            for name in ("weight", "confidence", "accuracy", "gap", "share"):
                np.testing.assert_array_equal(getattr(together, name)[row], getattr(alone, name))
            for norm in (1, 2, "max"):
                np.testing.assert_allclose(together.error(norm)[row], alone.error(norm), rtol=1e-15)

    def test_the_bin_of_exactly_one_is_there_even_when_empty(self):
        assert reliability(self.VALUES, self.OUTCOMES, np.ones(4), 5, convention="torchmetrics").weight.shape == (6,)
        assert reliability(self.VALUES, self.OUTCOMES, np.ones(4), 5, convention="netcal").weight.shape == (5,)

    def test_float32_is_summed_in_float64(self):
        n = 200_000
        found = reliability(np.full(n, 0.1, "float32"), np.zeros(n, bool), np.ones(n), bins=1)
        assert found.confidence[0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)

    @settings(max_examples=40)
    @given(
        values=st.lists(st.integers(0, 20), min_size=1, max_size=12),
        bins=st.integers(1, 20),
        convention=st.sampled_from(CONVENTIONS),
        data=st.data(),
    )
    def test_errors_by_definition(self, values, bins, convention, data):
        values = np.array(values) / 20
        outcomes = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
        members = {}
        for value, outcome in zip(values, outcomes, strict=True):
            members.setdefault(index_by_definition(value, bins, convention), []).append((value, outcome))
        gaps = [abs(np.mean([outcome - value for value, outcome in group])) for group in members.values()]
        shares = [len(group) / len(values) for group in members.values()]
        found = reliability(values, outcomes, np.ones(len(values)), bins, convention=convention)
        np.testing.assert_allclose(found.error(1), np.dot(shares, gaps), atol=1e-14)
        np.testing.assert_allclose(found.error(2), math.sqrt(np.dot(shares, np.square(gaps))), atol=1e-14)
        np.testing.assert_allclose(found.error("max"), max(gaps), atol=1e-14)


class TestCheckBinning:
    @pytest.mark.parametrize("bins", [1, 15, np.int64(3), 10_000])
    def test_whole_numbers_pass(self, bins):
        check_binning(bins, "width", "torchmetrics")
        check_binning(bins, "mass", "guo")

    @pytest.mark.parametrize("bins", [0, -3, 10_001, 1.5, True, False, math.nan, math.inf, None, "15", [3], (3,)])
    def test_other_numbers_of_bins_are_refused(self, bins):
        with pytest.raises(ValueError, match=r"`bins` must be a whole number in 1\.\.10000\. Received: bins=") as error:
            check_binning(bins, "width", "guo")
        assert str(bins) in str(error.value)

    @pytest.mark.parametrize("convention", ["netcal", "torchmetrics"])
    def test_a_convention_makes_no_sense_for_equal_mass(self, convention):
        with pytest.raises(ValueError, match=f"equal-width.*convention='{convention}', binning='mass'"):
            check_binning(15, "mass", convention)


class TestErrorInterval:
    @staticmethod
    def calibrated(n, seed, shift=0.0):
        rng = np.random.default_rng(seed)
        confidence = 1 - 0.9 * rng.beta(0.3, 8, n)
        return confidence, rng.random(n) < confidence - shift

    def test_one_bin_by_hand(self):
        values, outcomes = np.array([0.6, 0.6, 0.6, 0.6]), np.array([1, 0, 0, 0])
        # gap |1/4 - 0.6|; squares 0.16 + 3 * 0.36 against 4 * 0.24; the gap is less than z standard errors
        z = stats.norm.ppf(0.975)
        half = z**2 / 8 + z * math.sqrt(1.24 / 16 + z**2 / 64)
        bias = math.sqrt(2 / math.pi) * math.sqrt(1.24) / 4
        found = error_interval(values, outcomes, 0.95, bins=1)
        assert found.value == pytest.approx(0.35)
        assert found.low == max(0.35 - half - bias, 0)
        assert found.high == min(0.35 + half, 1)
        found = error_interval(values, outcomes, 0.1, bins=1)
        z = stats.norm.ppf(0.55)
        half = z**2 / 8 + z * math.sqrt(1.24 / 16 + z**2 / 64)
        error = math.sqrt(1.24) / 4
        far = 0.35 / error - z
        bias = 2 * error * (stats.norm.pdf(far) - far * stats.norm.sf(far))
        assert (found.low, found.high) == pytest.approx((0.35 - half - bias, 0.35 + half))

    @pytest.mark.parametrize(("binning", "convention"), [("width", "guo"), ("width", "torchmetrics"), ("mass", "guo")])
    @pytest.mark.parametrize("bins", [1, 15, 1000])
    def test_the_value_is_the_error_and_lies_within(self, bins, binning, convention):
        values, outcomes = self.calibrated(300, 0)
        error = reliability(values, outcomes, np.ones(300), bins, binning, convention).error()
        found = error_interval(values, outcomes, 0.95, bins, binning, convention)
        assert found.value == pytest.approx(error, rel=1e-12)
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert (found.level, found.n, found.method) == (0.95, 0, "bias bound")

    def test_all_right_is_not_certain(self):
        found = error_interval(np.ones(50), np.ones(50), 0.95)
        assert (found.low, found.value) == (0, 0)
        assert found.high == pytest.approx(stats.norm.ppf(0.975) ** 2 / 50)

    def test_far_from_calibration_the_bias_is_none(self):
        values, outcomes = np.full(10_000, 0.9), np.arange(10_000) < 5000
        found = error_interval(values, outcomes, 0.95)
        assert found.low == pytest.approx(2 * found.value - found.high, abs=1e-9)
        assert found.high == pytest.approx(0.4 + 1.96 * math.sqrt(0.41 / 10_000), abs=3e-4)

    @pytest.mark.parametrize(("shift", "n"), [(0.0, 200), (0.008, 200), (0.0008, 2000), (0.15, 200)])
    def test_a_nearly_calibrated_model_is_covered(self, shift, n):
        # a bootstrap covers 46 % at an error of 0.008, none at 0.0008
        covered = 0
        for seed in range(150):
            found = error_interval(*self.calibrated(n, seed, shift), 0.95)
            covered += found.low <= shift <= found.high
        assert covered >= 138  # the 5 % quantile of what a 95 % interval holds of 150

    def test_the_ece_of_a_calibrated_model_may_be_0(self):
        rng = np.random.default_rng(0)
        for _ in range(20):
            sure = rng.random(300) < 0.7
            labels = np.where(sure, 0, rng.integers(0, 2, 300))
            probabilities = np.where(sure[:, None], [1.0, 0.0], [0.5, 0.5])
            assert interval(expected_calibration_error, labels, probabilities, n=50).low == 0
