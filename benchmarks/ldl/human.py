"""Human label distributions as a teacher, and smoothing of the same entropy to hold them against."""

import zipfile

import numpy as np
from scipy.optimize import brentq
from scipy.special import entr

from kls.study.plan import PlanError


def read_distributions(path, dataset):
    """Reads how often people called each training image what.

    Args:
        path: An `.npz` file with `counts`, or an `.npy` file: counts of shape `(N, K)`, a row per training image of
            the dataset in its order.
        dataset: The opened `decathlon.Dataset`.

    Returns:
        The counts as distributions: float32 of shape `(N, K)`.

    Raises:
        PlanError: If the file cannot be read or its counts do not fit.
    """
    try:
        found = np.load(path, allow_pickle=False)
        counts = np.asarray(found["counts"] if hasattr(found, "files") else found, np.float64)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "it holds none"
        raise PlanError(f"--labels {path} must be an .npz file with `counts`, or an .npy file: {reason}.") from None
    expected = (dataset.counts["train"], dataset.classes)
    if counts.shape != expected:
        raise PlanError(
            f"--labels {path} must hold counts of shape {expected}, a row per training image of {dataset.name} and a "
            f"column per class. Received: shape {counts.shape}."
        )
    wrong = np.flatnonzero(~(np.isfinite(counts).all(axis=1) & (counts >= 0).all(axis=1) & (counts.sum(axis=1) > 0)))
    if len(wrong):
        raise PlanError(
            f"--labels {path} must hold counts of at least 0, one of them positive in each row. "
            f"Received: {len(wrong)} other rows, the first row {wrong[0]}."
        )
    return (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)


def mean_entropy(distributions):
    """Returns the mean entropy of label distributions of shape `(N, K)` in nats."""
    return float(entr(np.asarray(distributions, np.float64)).sum(axis=1).mean())


def gamma_of_entropy(entropy, classes):
    """Returns the gamma at which smoothed labels have an entropy.

    The `gamma` in `(1/K, 1]` with `-gamma log gamma - (1 - gamma) log((1 - gamma) / (K - 1)) = entropy`.

    Args:
        entropy: In nats, in `[0, log K)`.
        classes: Integer K.

    Raises:
        ValueError: If the entropy is out of its range.
    """
    if not 0 <= entropy < np.log(classes):
        raise ValueError(f"`entropy` must be in [0, log {classes}). Received: entropy={entropy}")

    def excess(gamma):
        rest = 1 - gamma
        return entr(gamma) + entr(rest) + rest * np.log(classes - 1) - entropy

    return float(brentq(excess, 1 / classes, 1.0))
