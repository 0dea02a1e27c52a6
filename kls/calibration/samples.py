"""What the calibration metrics need of each sample, taken from the class probabilities in one pass."""

from dataclasses import dataclass

import numpy as np

from kls.utils.arrays import SUM_TOLERANCE, as_numbers, check_bool

CHUNK = 1 << 17  # numbers that are worked on at once: they stay in a core's cache


@dataclass(frozen=True)
class Samples:
    """Per-sample quantities, each of shape `(N,)`.

    Attributes:
        confidence: The largest class probability, in the precision of the input (float32 at least), so that it falls
            on a bin's edge where the input does.
        correct: Whether the likeliest class (the first of equals) is the true one.
        uncertainty: Entropy of the class probabilities divided by `log K`, in the precision of the input.
        nll: `-log p_true` in nats, float64.
        brier: Squared distance of the class probabilities to the one-hot label, float64.
        weights: The samples' weights, float64 of shape `(N,)`, or `(R, N)` for R results.
    """

    confidence: np.ndarray
    correct: np.ndarray
    uncertainty: np.ndarray
    nll: np.ndarray
    brier: np.ndarray
    weights: np.ndarray

    @property
    def brier_top(self):
        """Squared distance of the confidence to whether the class is right, float64."""
        return (self.confidence.astype(np.float64) - self.correct) ** 2

    def mean(self, name):
        """Returns the weighted mean of a quantity; what weighs nothing does not count, be it infinite."""
        values, weights = getattr(self, name), self.weights
        with np.errstate(invalid="ignore"):
            weighted = np.where(weights > 0, weights * values, 0.0) if np.isinf(values).any() else weights * values
        return as_result(weighted.sum(axis=-1) / weights.sum(axis=-1))


def as_matrix(values, name):
    """Returns class scores as a float32 or float64 array of shape `(N, K)`.

    Args:
        values: Array or tensor; what is neither float32 nor float64 becomes the one that holds it.
        name: Its name in error messages.

    Raises:
        ValueError: If they are no real numbers, if there is no sample, or fewer than two classes.
    """
    values = as_numbers(values, name)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    if values.ndim != 2 or len(values) == 0 or values.shape[1] < 2:
        hint = " Give both columns, [1 - p, p]." if values.ndim == 2 and values.shape[1] == 1 else ""
        raise ValueError(
            f"`{name}` must be of shape (N, K) with N >= 1 samples and K >= 2 classes. "
            f"Received: shape {values.shape}.{hint}"
        )
    return values


def as_indices(y_true, count, classes):
    """Returns labels as class indices of shape `(N,)`.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        count: N.
        classes: K.

    Raises:
        ValueError: If a label is none of these, with the first that is wrong.
    """
    labels = as_numbers(y_true, "y_true")
    if labels.shape == (count, classes):
        hot = ((labels == 1).sum(axis=1) == 1) & ((labels != 0).sum(axis=1) == 1)
        _refuse_first(labels, ~hot, "`y_true` of shape (N, K) must be one-hot, a single 1 among 0 in each row")
        return labels.argmax(axis=1)
    if labels.shape not in ((count,), (count, 1)):
        raise ValueError(
            f"`y_true` must hold class indices of shape ({count},) or ({count}, 1), or one-hot labels of shape "
            f"({count}, {classes}). Received: shape {labels.shape}"
        )
    labels = labels.reshape(count)
    index = (labels >= 0) & (labels < classes) & (labels == np.floor(labels))
    _refuse_first(labels, ~index, f"`y_true` must hold whole numbers in 0..{classes - 1}")
    return labels.astype(np.int64)


def _refuse_first(labels, wrong, rule):
    """Raises `ValueError` with the first label that is wrong, if there is one."""
    if wrong.any():
        first = wrong.argmax()
        raise ValueError(f"{rule}. Received: y_true[{first}]={labels[first]}")


def as_weights(sample_weight, count):
    """Returns sample weights as float64 of shape `(N,)` or `(R, N)`; ones by default.

    Raises:
        ValueError: If the shape is another, or if a weight is no real number, negative or not finite, or if all are 0.
    """
    if sample_weight is None:
        return np.ones(count)
    weights = as_numbers(sample_weight, "sample_weight").astype(np.float64, copy=False)
    if weights.ndim not in (1, 2) or weights.shape[-1] != count:
        raise ValueError(
            f"`sample_weight` must be of shape ({count},), or (R, {count}) for R results. "
            f"Received: shape {weights.shape}"
        )
    wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
    if len(wrong) or not (weights.sum(axis=-1) > 0).all():
        raise ValueError(
            "`sample_weight` must hold finite numbers of at least 0 that do not all vanish. "
            f"Received: {wrong[0] if len(wrong) else 'nothing but 0'}"
        )
    return weights


def as_result(value):
    """Returns a float for one result, an array for several."""
    return float(value) if np.ndim(value) == 0 else value


def per_sample(y_true, probabilities, from_logits=False, sample_weight=None):
    """Returns the `Samples` of predictions: one pass over them, in pieces that need next to no memory.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits. Computed with in float64.
        from_logits: Whether `probabilities` are logits; one of `-inf` is a probability of 0.
        sample_weight: As in `as_weights`.

    Raises:
        ValueError: If labels, probabilities or weights are not as above: NaN, a negative probability, a row that does
            not sum to 1 (within 1 %), a label outside 0..K-1.
    """
    from_logits = check_bool(from_logits, "from_logits")
    name = "logits" if from_logits else "probabilities"
    matrix = as_matrix(probabilities, name)
    count, classes = matrix.shape
    labels = as_indices(y_true, count, classes)
    confidence, uncertainty = np.empty((2, count), matrix.dtype)
    correct = np.empty(count, bool)
    nll, brier = np.empty((2, count))
    describe = _from_logits if from_logits else _from_probabilities
    rows = max(1, CHUNK // classes)
    for start in range(0, count, rows):
        part = slice(start, start + rows)
        chunk = matrix[part]
        correct[part] = chunk.argmax(axis=1) == labels[part]
        confidence[part], entropy, nll[part], p_true, squares = describe(chunk.astype(np.float64), labels[part], start)
        uncertainty[part] = np.minimum(entropy / np.log(classes), 1)
        brier[part] = squares - 2 * p_true + 1
    return Samples(confidence, correct, uncertainty, nll, brier, as_weights(sample_weight, count))


def softmax(logits):
    """Returns the float64 class probabilities of logits of shape `(N, K)`."""
    logits = np.asarray(logits, np.float64)
    with np.errstate(over="ignore"):
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def log_softmax(logits):
    """Returns the float64 log-probabilities of logits of shape `(N, K)`."""
    logits = np.asarray(logits, np.float64)
    with np.errstate(over="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _from_logits(logits, labels, start):
    """Returns confidence, entropy, negative log-likelihood, true class's probability and sum of squares per row."""
    largest = logits.max(axis=1)
    rule = "`logits` must be numbers below infinity, one of a row at least finite"
    _raise_unless(np.isfinite(largest), start, rule, largest)
    with np.errstate(over="ignore"):
        logits -= largest[:, None]
    true_logit = logits[np.arange(len(labels)), labels]
    powers = np.exp(logits)
    total = powers.sum(axis=1)
    np.maximum(logits, np.finfo(np.float64).min, out=logits)  # 0 * -inf is no number
    entropy = np.log(total) - np.einsum("nk,nk->n", powers, logits) / total
    squares = np.einsum("nk,nk->n", powers, powers) / total**2
    return 1 / total, entropy, np.log(total) - true_logit, np.exp(true_logit) / total, squares


def _from_probabilities(probabilities, labels, start):
    """Returns what `_from_logits` does."""
    with np.errstate(invalid="ignore"):
        total = probabilities.sum(axis=1)
    summing = np.abs(total - 1) <= SUM_TOLERANCE
    _raise_unless(summing, start, "`probabilities` must sum to 1 in each row (or pass `from_logits=True`)", total)
    lowest = probabilities.min(axis=1)
    _raise_unless(lowest >= 0, start, "`probabilities` must not be negative (or pass `from_logits=True`)", lowest)
    np.minimum(probabilities, 1, out=probabilities)
    p_true = probabilities[np.arange(len(labels)), labels]
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    entropy = -np.einsum("nk,nk->n", probabilities, logs)
    squares = np.einsum("nk,nk->n", probabilities, probabilities)
    with np.errstate(divide="ignore"):
        nll = -np.log(p_true)
    return probabilities.max(axis=1), entropy, nll, p_true, squares


def _raise_unless(fine, start, rule, received):
    wrong = np.flatnonzero(~fine)
    if len(wrong):
        raise ValueError(
            f"{rule}. Received: row {start + wrong[0]} with {received[wrong[0]]:.6g}, the first of {len(wrong)} or more"
        )
