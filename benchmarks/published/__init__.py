"""The papers' numbers, one CSV per paper in `benchmarks/published`."""

from importlib import resources

import pandas as pd


def published(paper):
    """Returns a paper's numbers.

    Args:
        paper: Name of the file without its suffix, e.g. `"mezzini2018"`.

    Returns:
        `pandas.DataFrame` with the columns table, dataset, model, method, metric, value and std.
    """
    with resources.files("benchmarks").joinpath(f"published/{paper}.csv").open() as file:
        return pd.read_csv(file, dtype={"table": str})
