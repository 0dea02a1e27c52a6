"""Samples drawn from each class."""

import numpy as np


def drawn_of_each_class(labels, count_of, seed):
    """Returns a mask of samples drawn from each class, one at least.

    Args:
        labels: Class indices of shape `(N,)`.
        count_of: Function of the number of samples of a class to how many of them to draw.
        seed: Integer from which the draw is made.

    Example:

    >>> drawn = drawn_of_each_class(np.array([0, 0, 0, 0, 1]), lambda count: count // 2, seed=0)
    >>> int(drawn[:4].sum()), bool(drawn[4])
    (2, True)
    """
    mask = np.zeros(len(labels), bool)
    order = np.random.default_rng(seed).permutation(len(labels))
    for k in np.unique(labels):
        of_class = order[labels[order] == k]
        mask[of_class[: max(1, count_of(len(of_class)))]] = True
    return mask
