import io

import numpy as np
import pandas as pd
import pytest

from kls.calibration import TemperatureScaling, expected_calibration_error
from kls.calibration.scaling.base import cross_fitted
from kls.study.methods import CrossEntropy
from kls.study.report.group import Group
from kls.study.report.reliability import reliability_parts

from .helpers import LABELS, logits_of


@pytest.mark.usefixtures("undrawn")
def test_each_half_is_scaled_by_the_temperature_of_the_other(group):
    table, figures = reliability_parts(group)
    frame = pd.read_csv(io.StringIO(table.file.text)).set_index(["method", "seed"])
    for seed in (0, 1):
        logits = np.float32(logits_of(seed))
        scaled = np.empty(logits.shape)
        temperatures = []
        for judged, scaler in cross_fitted(TemperatureScaling(), logits, LABELS):
            scaled[judged] = logits[judged].astype(float) / scaler.temperature
            temperatures.append(scaler.temperature)
        row = frame.loc["gamma=1", seed]
        assert sorted(row[["T1", "T2"]]) == pytest.approx(sorted(temperatures))
        assert row["as_trained"] == pytest.approx(expected_calibration_error(LABELS, logits, from_logits=True))
        assert row["scaled"] == pytest.approx(expected_calibration_error(LABELS, scaled, from_logits=True))
    assert [row[:2] for row in table.rows] == [("gamma=1", "2"), ("gamma=0.9", "2")]
    first = frame.loc["gamma=0.9", 0]
    titles = [seen.removeprefix("Reliability diagram, ") for seen, _ in figures.figures]
    assert titles[2:] == ["gamma=0.9, as trained", f"gamma=0.9, T = {first['T1']:.3f}, {first['T2']:.3f}"]
    assert table.notes == ()


@pytest.mark.usefixtures("undrawn")
def test_a_temperature_at_the_end_of_its_range_is_said_to_be_one(finish_methods, store):
    records = finish_methods({CrossEntropy(): lambda seed: 5 * np.eye(3)[LABELS]}, seeds=1)
    table, _ = reliability_parts(Group(records, store))
    assert table.notes == ("A temperature is an end of the range that is searched: the best lies beyond.",)
