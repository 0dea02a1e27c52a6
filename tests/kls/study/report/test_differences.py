import numpy as np
import pytest

from kls.pages.page import Cell
from kls.study.report.differences import difference_cells

ROW = {"metric": "accuracy", "n": 3, "difference": 0.01, "low": -0.005, "high": 0.025, "word": "cannot tell"}


@pytest.mark.parametrize(
    ("needed", "expected"),
    [
        ((12.0, np.nan), "cannot tell (12 seeds)"),
        ((None, 4000), "cannot tell (4,000 images)"),
        ((5, 4000), "cannot tell (5 seeds)"),
        ((None, np.nan), "cannot tell"),
    ],
)
def test_what_it_would_take_to_tell_stands_behind_the_word(needed, expected):
    cells = difference_cells({**ROW, **dict(zip(("seeds_needed", "images_needed"), needed, strict=True))})
    assert cells == ("accuracy", "3", "+1.00 [-0.50, +2.50] points", Cell(expected, "unknown"))


@pytest.mark.parametrize(("word", "look"), [("better", "better"), ("worse", "worse"), ("practically the same", "same")])
def test_other_words_stand_alone_and_have_their_look(word, look):
    row = {**ROW, "metric": "auroc_far", "word": word, "seeds_needed": 5, "images_needed": 9}
    assert difference_cells(row) == ("AUROC far", "3", "+1.00 [-0.50, +2.50] points", Cell(word, look))
