from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from kls.study.methods import CrossEntropy, DisturbLabel, LabelSmoothing
from kls.study.report.figures import difference_parts, draw_over_gamma
from kls.study.report.group import Group

from .helpers import logits_of

CELLS = {"baseline": 0.9, "margin": 0.0025, "word": "worse", "n": 3}


def texts(svg):
    return {element.text for element in ElementTree.fromstring(svg).iter("text")}


def cells(*rows):

    return pd.DataFrame(
        [{**CELLS, "gamma": gamma, "difference": d, "low": low, "high": high} for gamma, d, low, high in rows]
    )


def panel_of(frame, **options):
    panel = Figure().subplots()
    draw_over_gamma(panel, "accuracy", frame, "gamma=1", **options)
    return panel


def test_strengths_of_smoothing_stand_over_gamma_a_figure_per_metric(group):
    found = difference_parts(group)
    names = ["accuracy", "NLL", "Brier score", "ECE", "AUROC far", "AUROC near"]
    assert [seen for seen, _ in found.figures] == [f"Differences of {name} from gamma=1" for name in names]
    for name, (_, svg) in zip(names, found.figures, strict=True):
        assert {name, "γ"} <= texts(svg)
        assert ElementTree.fromstring(svg).get("width") == "288pt"  # 4 in
    assert "n = 2 paired seeds, 41 test images" in found.caption
    assert dict(found.key).keys() <= {"better", "worse", "same", "unknown"}


def test_methods_of_other_kinds_have_a_row_each(finish_methods, store):
    methods = {CrossEntropy(): logits_of, DisturbLabel(0.1): logits_of, LabelSmoothing(0.9): logits_of}
    found = difference_parts(Group(finish_methods(methods), store))
    for _, svg in found.figures:
        assert {DisturbLabel(0.1).label, "gamma=0.9"} <= texts(svg)
        assert "γ" not in texts(svg)


def test_one_seed_is_said_to_be_for_new_images_alone(finish_methods, store):
    found = difference_parts(Group(finish_methods(seeds=1), store))
    assert "which are for new images alone; n = 1 paired seed, 41" in found.caption
    assert found.key == (("unknown", "● cannot tell"),)


def test_a_panel_shows_the_numbers_with_their_intervals_and_zero():
    panel = panel_of(cells((0.9, -0.02, -0.03, -0.015)))
    bars = panel.containers[0]
    np.testing.assert_allclose(bars.lines[0].get_xydata(), [[0.9, -2.0]])
    np.testing.assert_allclose(bars.lines[2][0].get_segments()[0], [[0.9, -3.0], [0.9, -1.5]])
    assert [0, 0] in [list(line.get_ydata()) for line in panel.lines]
    assert panel.get_ylabel() == "points (larger is better)"
    assert panel.get_title() == "accuracy\n90.00 % at gamma=1"


@pytest.mark.parametrize("published", [None, {0.9: -0.01, 1.0: 0.0}])
def test_a_papers_differences_are_drawn_where_there_are_some(published):
    panel = panel_of(cells((0.9, 0.0, -0.01, 0.01)), published=published)
    drawn = [line.get_xydata().tolist() for line in panel.lines if line.get_marker() == "x"]
    assert drawn == ([] if published is None else [[[0.9, -1.0], [1.0, 0.0]]])


def test_an_axis_of_shares_ends_where_shares_end():
    low, high = panel_of(cells((0.9, 0.0, -5.0, 7.0))).get_ylim()
    assert -113 < low < -100
    assert 100 < high < 113
