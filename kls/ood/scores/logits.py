"""Scores of logits alone, and their post-hoc normalisation."""

import numpy as np

from kls.calibration.namespaces import ARRAYS
from kls.calibration.samples import as_matrix
from kls.ood.scores.base import Score
from kls.utils.arrays import check_number, check_whole


class MSP(Score):
    """Maximum softmax probability (Hendrycks & Gimpel 2017, "A baseline for detecting misclassified and OOD examples").

    `max_k softmax(z)_k`.

    Example:

    >>> MSP()([[0.0, 0.0], [0.0, 9.0]]).round(4).tolist()
    [0.5, 0.9999]
    """

    def formula(self, xp, outputs):
        return xp.max(xp.softmax(outputs.logits), axis=1)


class MaxLogit(Score):
    """Maximum logit (Hendrycks et al. 2022, "Scaling OOD detection for real-world settings"): `max_k z_k`.

    Example:

    >>> MaxLogit()([[1.0, 2.0], [3.0, 9.0]]).tolist()
    [2.0, 9.0]
    """

    uses_exact_logits = True

    def formula(self, xp, outputs):
        return xp.max(xp.as_float(outputs.logits), axis=1)


class Energy(Score):
    """Negative free energy (Liu et al. 2020, "Energy-based OOD detection", equation 4): `T log sum_k exp(z_k / T)`.

    Args:
        temperature: T; its authors take 1.

    Example:

    >>> Energy()([[0.0, 0.0]]).round(4).tolist()
    [0.6931]
    """

    uses_exact_logits = True

    def __init__(self, temperature=1.0):
        check_number(temperature, "temperature", "(0, inf)")
        self.temperature = temperature

    def formula(self, xp, outputs):
        return energy_of(xp, outputs.logits, self.temperature)


class Entropy(Score):
    """Negative entropy of the softmax, `sum_k p_k log p_k`, in nats.

    Example:

    >>> Entropy()([[0.0, 0.0]]).round(4).tolist()
    [-0.6931]
    """

    def formula(self, xp, outputs):
        log_p = xp.maximum(xp.log_softmax(outputs.logits), xp.lowest)
        return xp.sum(xp.exp(log_p) * log_p, axis=1)


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

    def formula(self, xp, outputs):
        p = xp.sort(xp.softmax(outputs.logits), axis=1)
        of_largest = xp.sum(p[:, :-1], axis=1, keepdims=True)  # of a p next to 1 nothing else would be left
        rest = xp.concatenate([1 - p[:, :-1], of_largest], axis=1)
        return -xp.sum(((p * rest) ** self.gamma)[:, -self.top :], axis=1)


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
        p = ARRAYS.softmax(outputs.logits)
        predicted = p.argmax(axis=1)
        templates = np.stack([p[predicted == k].mean(axis=0) for k in np.unique(predicted)])
        self._log_templates = np.log(np.maximum(templates, np.finfo(np.float64).tiny))

    def formula(self, xp, outputs):
        p = xp.softmax(outputs.logits)
        negative_entropy = xp.sum(p * xp.log(xp.maximum(p, xp.tiny)), axis=1, keepdims=True)
        return -xp.min(negative_entropy - xp.matmul(p, xp.transpose(self._log_templates)), axis=1)


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


def energy_of(xp, logits, temperature=1.0):
    """Returns the negative free energy `T log sum_k exp(z_k / T)` of each row."""
    scaled = xp.as_float(logits) / temperature
    largest = xp.max(scaled, axis=1, keepdims=True)
    return temperature * (largest[:, 0] + xp.log(xp.sum(xp.exp(scaled - largest), axis=1)))
