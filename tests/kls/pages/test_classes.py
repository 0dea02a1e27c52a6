import io

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from kls.pages.classes import confusions, worst_classes

LABELS = np.array([0] * 4 + [1] * 10 + [2] * 2)
ONE = np.array([[0, 0, 0, 1] + [1] * 10 + [0, 2]])  # recalls 3/4, 1, 1/2
TWO = np.array([[0, 0, 1, 1] + [1] * 9 + [2] + [2, 2], [0, 0, 1, 1] + [1] * 9 + [2] + [0, 2]])  # 1/2, 9/10, 3/4
NAMES = ["=a", "b", "c", "never"]


def frame_of(grid):
    return pd.read_csv(io.StringIO(grid.file.text))


def test_recalls_are_means_over_networks_with_n_and_the_worst_first():
    grid = worst_classes("classes", LABELS, {"x": ONE, "y": TWO}, NAMES)
    assert grid.header == ("class", "n", "recall % x", "recall % y")
    assert [row[:2] for row in grid.rows] == [("=a", "4"), ("c", "2"), ("b", "10")]
    assert grid.rows[2][3].startswith("90.0 [")
    frame = frame_of(grid)
    assert frame["class"].tolist() == ["'=a", "b", "c", "never"]
    assert frame["n"].tolist() == [4, 10, 2, 0]
    np.testing.assert_allclose(frame["recall x"], [0.75, 1.0, 0.5, np.nan])
    np.testing.assert_allclose(frame["recall y"], [0.5, 0.9, 0.75, np.nan])


def test_intervals_are_exact_ones_of_a_share():
    grid = worst_classes("classes", LABELS, {"x": ONE}, NAMES)
    expected = binomtest(3, 4).proportion_ci(method="exact")
    of_a = next(row for row in grid.rows if row[0] == "=a")
    assert of_a[2] == f"75.0 [{100 * expected.low:.1f}, {100 * expected.high:.1f}]"
    assert "chance in part" in grid.caption


def test_confusions_are_counted_and_shared_by_class():
    grid = confusions("confusions", LABELS, {"x": ONE, "y": TWO}, NAMES)
    assert grid.header == ("label", "prediction", "n", "images x", "images y")
    assert grid.rows == (
        ("=a", "b", "4", "1 (25.0 %)", "2 (50.0 %)"),
        ("c", "=a", "2", "1 (50.0 %)", "0.5 (25.0 %)"),
        ("b", "c", "10", "0 (0.0 %)", "1 (10.0 %)"),
    )
    assert frame_of(grid)["images y"].tolist() == [2.0, 0.5, 1.0]


def test_without_a_mistake_there_are_no_confusions():
    assert confusions("confusions", LABELS, {"x": LABELS[None]}, NAMES) is None


@pytest.mark.parametrize("networks", [1, 2])
def test_the_caption_says_of_how_many_networks(networks):
    guesses = {"x": np.repeat(ONE, networks, axis=0)}
    expected = "one network" if networks == 1 else "the mean over 2 networks"
    assert expected in worst_classes("classes", LABELS, guesses, NAMES).caption
