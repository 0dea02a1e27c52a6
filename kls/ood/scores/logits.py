"""Scores of logits alone, and their post-hoc normalisation."""

import numpy as np

from kls.calibration.samples import as_matrix, log_softmax, softmax
from kls.ood.scores.base import Score
from kls.utils.arrays import check_number, check_whole


class MSP(Score):
    """Maximum softmax probability (Hendrycks & Gimpel 2017, "A baseline for detecting misclassified and OOD examples").

    `max_k softmax(z)_k`.

    Example:

    >>> MSP()([[0.0, 0.0], [0.0, 9.0]]).round(4).tolist()
    [0.5, 0.9999]
    """

    def _score(self, outputs):
        return softmax(outputs.logits).max(axis=1)


class MaxLogit(Score):
    """Maximum logit (Hendrycks et al. 2022, "Scaling OOD detection for real-world settings"): `max_k z_k`.

    Example:

    >>> MaxLogit()([[1.0, 2.0], [3.0, 9.0]]).tolist()
    [2.0, 9.0]
    """

    def _score(self, outputs):
        return _own_logits(self, outputs).max(axis=1)


class Energy(Score):
    """Negative free energy (Liu et al. 2020, "Energy-based OOD detection", equation 4): `T log sum_k exp(z_k / T)`.

    Args:
        temperature: T; its authors take 1.

    Example:

    >>> Energy()([[0.0, 0.0]]).round(4).tolist()
    [0.6931]
    """

    def __init__(self, temperature=1.0):
        check_number(temperature, "temperature", "(0, inf)")
        self.temperature = temperature

    def _score(self, outputs):
        return energy_of(_own_logits(self, outputs), self.temperature)


class Entropy(Score):
    """Negative entropy of the softmax, `sum_k p_k log p_k`, in nats.

    Example:

    >>> Entropy()([[0.0, 0.0]]).round(4).tolist()
    [-0.6931]
    """

    def _score(self, outputs):
        log_p = np.maximum(log_softmax(outputs.logits), np.finfo(np.float64).min)
        return (np.exp(log_p) * log_p).sum(axis=1)


class GEN(Score):
    """Generalised entropy (Liu et al. 2023, "GEN: pushing the limits of softmax-based OOD detection", equation 4).

    `-sum_{k in the M likeliest} p_k^gamma (1 - p_k)^gamma`.

    Args:
        gamma: Exponent in (0, 1); its authors take 0.1.
        top: M; its authors take 100 for ImageNet's 1,000 classes. With fewer classes, all count.

    Example:

    >>> GEN()([[0.0, 0.0]]).round(4).tolist()
    [-1.7411]
    """

    def __init__(self, gamma=0.1, top=100):
        check_number(gamma, "gamma", "(0, 1)")
        self.gamma = gamma
        self.top = check_whole(top, "top", 1)

    def _score(self, outputs):
        p = np.sort(softmax(outputs.logits), axis=1)
        rest = 1 - p
        rest[:, -1] = p[:, :-1].sum(axis=1)  # of a p next to 1 nothing else would be left
        return -((p * rest) ** self.gamma)[:, -self.top :].sum(axis=1)


class KLMatching(Score):
    """Divergence from the nearest class template (Hendrycks et al. 2022, "Scaling OOD detection", section 4).

    `-min_k KL(p || d_k)` with the mean softmax d_k of the data that are predicted as class k; a class that is never
    predicted has no template. Its authors take validation data for that, where the softmax is less sure of itself.

    Example:

    ```python
    values = kls.ood.scores.KLMatching().fit(model, x_validation)(model, images)
    ```
    """

    uses_training_data = True
    learned = ("log_templates",)

    def _learn(self, outputs):
        p = softmax(outputs.logits)
        predicted = p.argmax(axis=1)
        templates = np.stack([p[predicted == k].mean(axis=0) for k in np.unique(predicted)])
        self._log_templates = np.log(np.maximum(templates, np.finfo(np.float64).tiny))

    def _score(self, outputs):
        p = softmax(outputs.logits)
        negative_entropy = (p * np.log(np.maximum(p, np.finfo(np.float64).tiny))).sum(axis=1)
        return -(negative_entropy[:, None] - p @ self._log_templates.T).min(axis=1)


def normalize_logits(logits, p=2):
    """Returns logits of mean 0 and p-norm 1 per sample.

    `(z - mean(z)) / ||z - mean(z)||_p` (Cattelan & Silva 2024, "How to fix a broken confidence estimator", where the
    largest of them is the score), which leaves the likeliest class as it is. Xia et al. 2025, "Towards understanding
    why label smoothing degrades selective classification and how to fix it", find that it undoes what smoothing does
    to the ranking of confidences.

    Args:
        logits: Finite logits of shape `(N, K)`.
        p: Order of the norm, at least 1.

    Returns:
        float64 array of shape `(N, K)`; a row of equal logits becomes 0.

    Raises:
        ValueError: If logits are not as above, or if `p` is below 1.

    Example:

    >>> normalize_logits([[1.0, 7.0, 1.0]]).round(4).tolist()
    [[-0.4082, 0.8165, -0.4082]]
    """
    check_number(p, "p", "[1, inf]")
    logits = as_matrix(logits, "logits").astype(np.float64)
    if not np.isfinite(logits).all():
        raise ValueError("`logits` must be finite. Received: infinite ones or NaN")
    below = logits - logits.max(axis=1, keepdims=True)  # equal logits are 0 to the last bit
    spread = -below.min(axis=1, keepdims=True)
    below /= np.where(spread > 0, spread, 1.0)  # no power of it is too large or too small for a float
    centred = below - below.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, ord=p, axis=1, keepdims=True)
    return centred / np.where(norms > 0, norms, 1.0)


def energy_of(logits, temperature=1.0):
    """Returns the negative free energy `T log sum_k exp(z_k / T)` of each row."""
    scaled = np.asarray(logits, np.float64) / temperature
    largest = scaled.max(axis=1)
    return temperature * (largest + np.log(np.exp(scaled - largest[:, None]).sum(axis=1)))


def _own_logits(score, outputs):
    """Returns float64 logits, or raises where they are known only up to a constant per sample."""
    if not outputs.exact_logits:
        raise ValueError(
            f"{type(score).__name__} needs logits, but the model returns probabilities and has no last Dense layer to "
            "take them from. Return logits, or build the model from layers (functional or Sequential)."
        )
    return outputs.logits.astype(np.float64)
