import math

import numpy as np
import pytest
from scipy import stats

from kls.calibration import accuracy, interval
from kls.utils.proportions import clopper_pearson, proportion_interval, square_and_add


def hits(count, size):
    """Returns labels and probabilities of which so many are right."""
    return (np.arange(size) >= count).astype(int), np.full((size, 2), [0.9, 0.1])


class TestClopperPearson:
    @pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
    @pytest.mark.parametrize(("count", "size"), [(0, 1), (1, 1), (0, 50), (50, 50), (7, 20), (199, 200), (9945, 10000)])
    def test_is_that_of_scipy(self, count, size, level):
        expected = stats.binomtest(count, size).proportion_ci(level, method="exact")
        assert clopper_pearson(count, size, level) == pytest.approx(tuple(expected), rel=1e-9, abs=1e-15)

    @pytest.mark.parametrize("size", [1, 10, 50, 200])
    def test_covers_at_least_as_often_as_its_level_says(self, size):
        ends = np.array([clopper_pearson(count, size, 0.95) for count in range(size + 1)])
        for true in np.linspace(0.001, 0.999, 97):
            held = (ends[:, 0] <= true) & (true <= ends[:, 1])
            assert stats.binom.pmf(np.arange(size + 1), size, true)[held].sum() >= 0.95 - 1e-12


class TestAccuracy:
    def test_fifty_hits_of_fifty_are_not_certain(self):
        found = interval(accuracy, *hits(50, 50))
        assert (found.value, found.high) == (1.0, 1.0)
        assert found.low == pytest.approx(0.025 ** (1 / 50))
        assert (found.n, found.method) == (0, "Clopper-Pearson")

    def test_no_hit_of_fifty_is_not_certain(self):
        found = interval(accuracy, *hits(0, 50))
        assert (found.value, found.low) == (0.0, 0.0)
        assert found.high == pytest.approx(1 - 0.025 ** (1 / 50))

    def test_neither_seed_nor_resamples_tell(self):
        assert interval(accuracy, *hits(45, 50), n=1, seed=5) == proportion_interval(45, 50, 0.95)

    def test_a_level_and_logits_are_passed_on(self):
        labels, p = hits(45, 50)
        found = interval(accuracy, labels, np.log(p), level=0.8, from_logits=True)
        assert found == proportion_interval(45, 50, 0.8)

    def test_weights_and_unknown_options_are_refused(self):
        for options in ({"sample_weight": np.ones(50)}, {"bins": 3}):
            with pytest.raises(TypeError, match=next(iter(options))):
                interval(accuracy, *hits(45, 50), **options)

    @pytest.mark.parametrize("options", [{"n": 0}, {"n": "10"}, {"level": 95}, {"seed": -1}, {"seed": 0.5}])
    def test_what_it_does_not_need_is_still_checked(self, options):
        name = next(iter(options))
        with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
            interval(accuracy, *hits(45, 50), **options)


class TestSquareAndAdd:
    def test_distances_add_up_in_squares(self):
        found = square_and_add(0.5, [(0.47, 0.6), (0.46, 0.74)], 0.9, "by hand")
        assert (found.low, found.high) == pytest.approx((0.45, 0.76))
        assert (found.value, found.level, found.n, found.method) == (0.5, 0.9, 0, "by hand")

    def test_one_reason_alone_keeps_its_ends(self):
        found = square_and_add(0.5, [(0.4, 0.7), (0.5, 0.5)], 0.95, "")
        assert (found.low, found.high) == pytest.approx((0.4, 0.7))

    def test_a_share_ends_at_0_and_1(self):
        found = square_and_add(0.5, [(0.0, 1.0), (0.0, 1.0)], 0.95, "")
        assert (found.low, found.high) == (0.0, 1.0)
        assert not math.isnan(found.value)
