"""Logits of the 41 test images of `stripes`, and of OOD images."""

import numpy as np

COUNT = 41
LABELS = np.arange(COUNT) % 3


def logits_of(seed, signal=2.0, scale=1.0):
    """Returns logits of which the true class is ahead in most images."""
    return scale * (signal * np.eye(3)[LABELS] + np.random.default_rng([7, seed]).normal(0, 1.2, (COUNT, 3)))


def outliers_of(seed, count=30, scale=1.0):
    return scale * np.random.default_rng([8, seed]).normal(0, 1, (count, 3))
