import numpy as np

from kls.study.statistics import Predictions, Scores


def predictions(rng, n=3, size=400, classes=4, signal=2.0, of_seeds=0.0, shared=None):
    """Returns `Predictions` of which the true class is `signal` ahead, and a seed's more or less by `of_seeds`."""
    labels = np.arange(size) % classes
    noise = rng.normal(0, 1, (n, size, classes)) + (0 if shared is None else shared)
    signals = signal + of_seeds * rng.normal(0, 1, (n, 1, 1))
    return Predictions(labels, signals * np.eye(classes)[labels] + noise)


def scores(rng, n=3, size=300, distance=2.0, sets=("near", "far")):
    """Returns `Scores` of ID images a distance above those of OOD sets of 200 images."""
    return Scores(rng.normal(distance, 1, (n, size)), {name: rng.normal(0, 1, (n, 200)) for name in sets})
