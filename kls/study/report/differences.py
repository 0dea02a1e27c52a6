"""Differences from the baseline as rows of a page, from the numbers of their comparisons."""

import pandas as pd

from kls.pages.page import Cell
from kls.study.report.comparisons import heading_of, split_metric
from kls.study.statistics import BETTER, METRICS, SAME, UNKNOWN, WORSE
from kls.study.statistics.comparison import counts

SIGNS = {BETTER: ("better", "▲"), WORSE: ("worse", "▼"), SAME: ("same", "■"), UNKNOWN: ("unknown", "●")}
HEADER = ("metric", "n", "difference", "verdict")
NEEDED = "In brackets: what it would take to tell."


def difference_cells(numbers):
    """Returns the cells below `HEADER` of a comparison.

    Args:
        numbers: Its metric, as in `Results.compare`, and what `numbers_of` returns, by name.
    """
    of = METRICS[split_metric(numbers["metric"])[0]]
    difference, low, high = (of.shown(numbers[name], "+") for name in ("difference", "low", "high"))
    word = numbers["word"]
    needed = (numbers[name] for name in ("seeds_needed", "images_needed"))
    needed = counts(*(None if pd.isna(count) else int(count) for count in needed)) if word == UNKNOWN else []
    said = " ".join([word, *(f"({count})" for count in needed[:1])])
    text = f"{difference} [{low}, {high}] {of.unit}".rstrip()
    return heading_of(numbers["metric"]), str(numbers["n"]), text, Cell(said, SIGNS[word][0])
