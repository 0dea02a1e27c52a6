import numpy as np
import pytest

from kls.guarding.drift import drift_of

RNG = np.random.default_rng(0)
REFERENCE = RNG.normal(size=300)


def test_the_statistic_is_the_largest_gap_of_the_distributions():
    # at 3 all of the reference lies below or at it and none of the scores
    found = drift_of(np.array([4.0, 5.0]), np.array([1.0, 2.0, 3.0]), 2.0, 2 / 3)
    assert (found.statistic, found.n, found.in_distribution, found.kept) == (1.0, 2, 1.0, 2 / 3)
    assert found.p_value == pytest.approx(2 / 10)  # two of the C(5, 2) orders are as far apart


def test_a_shift_is_told_and_said():
    found = drift_of(RNG.normal(size=200) - 2, REFERENCE, -1.6, 0.95)
    assert found.has_changed
    assert str(found).startswith("The scores have changed: ")
    assert "of 200 images are in distribution, at calibration 95.0 % were" in str(found)


def test_the_same_distribution_is_called_changed_as_rarely_as_said():
    called = [drift_of(RNG.normal(size=100), RNG.normal(size=300), 0.0, 0.5).has_changed for _ in range(300)]
    assert sum(called) <= 9  # 3 of 300 expected; 10 and more happen once in a thousand


def test_one_image_can_tell_nothing():
    found = drift_of(np.array([0.1]), REFERENCE, -1.6, 0.95)
    assert not found.has_changed
    assert str(found).startswith("No change can be told: 100.0 % of 1 images")
