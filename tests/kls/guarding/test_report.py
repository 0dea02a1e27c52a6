import pytest
from scipy.stats import binomtest

from kls.guarding.report import Report

REPORT = Report(
    "Energy(temperature=1.0)",
    "TemperatureScaling(temperature=1.5)",
    0.95,
    2.5,
    (380, 400),
    {"noise": (162, 200), "glyphs": (0, 5)},
)


def test_shares_have_the_intervals_of_scipy():
    for interval, (count, size) in [
        (REPORT.kept, (380, 400)),
        (REPORT.stopped["noise"], (162, 200)),
        (REPORT.stopped["glyphs"], (0, 5)),
    ]:
        expected = binomtest(count, size).proportion_ci(0.95, "exact")
        assert interval.value == count / size
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_says_what_is_kept_and_stopped_in_sentences():
    text = str(REPORT)
    assert "In-distribution is what scores at least 2.5 by Energy(temperature=1.0)." in text
    assert "Keeps 95.0 % [92.4, 96.9] (n = 400) of in-distribution images." in text
    assert "it stops: noise 81.0 % [74.9, 86.2] (n = 200), glyphs 0.0 % [0.0, 52.2] (n = 5)." in text
    assert "TemperatureScaling(temperature=1.5), fitted to the calibration images" in text


def test_says_that_nothing_is_known_without_ood_data_and_scaling():
    text = str(Report("MSP()", None, 0.9, 0.5, (9, 10)))
    assert "No OOD datasets were given: what it stops is not known." in text
    assert "scaled" not in text
