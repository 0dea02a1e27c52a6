"""Differences from the baseline as rows of a page, from the numbers of their comparisons."""

from kls.pages.page import Cell
from kls.study.report.comparisons import cells_of, split_metric
from kls.study.statistics import BETTER, METRICS, SAME, UNKNOWN, WORSE

SIGNS = {BETTER: ("better", "▲"), WORSE: ("worse", "▼"), SAME: ("same", "■"), UNKNOWN: ("unknown", "●")}
HEADER = ("metric", "n", "difference", "verdict")


def difference_cells(numbers):
    """Returns the cells below `HEADER` of a comparison.

    Args:
        numbers: Its metric, as in `Results.compare`, and what `numbers_of` returns, by name.
    """
    heading, difference, said = cells_of(numbers["metric"], numbers)
    unit = METRICS[split_metric(numbers["metric"])[0]].unit
    return heading, str(numbers["n"]), f"{difference} {unit}".rstrip(), Cell(said, SIGNS[numbers["word"]][0])
