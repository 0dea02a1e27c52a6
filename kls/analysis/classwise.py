"""Results class by class."""

import numpy as np

from kls.calibration.samples import as_indices, as_matrix, per_sample


def class_scores(y_true, probabilities, from_logits=False):
    """Returns each class's F1 score and mean confidence in the true class.

    `F1_k = 2 TP_k / (2 TP_k + FP_k + FN_k)`, and the mean of `p_k` over the samples of class k (label distribution
    learning paper, figure 4). Without samples of a class its mean is NaN, and so is its F1 unless it is predicted.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or one-hot labels of shape `(N, K)`.
        probabilities: Class probabilities of shape `(N, K)`, or logits.
        from_logits: Whether `probabilities` are logits.

    Returns:
        `(F1 scores, mean confidences)`, two float64 arrays of shape `(K,)`.

    Raises:
        ValueError: If labels or probabilities are not as above.

    Example:

    >>> f1, confidence = class_scores([0, 0, 1], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    >>> f1.round(3).tolist(), confidence.round(3).tolist()
    ([0.667, 0.667], [0.65, 0.8])
    """
    from sklearn.metrics import f1_score

    p_true = np.exp(-per_sample(y_true, probabilities, from_logits).nll)
    matrix = as_matrix(probabilities, "probabilities")
    count, classes = matrix.shape
    labels = as_indices(y_true, count, classes)
    f1 = f1_score(labels, matrix.argmax(axis=1), labels=range(classes), average=None, zero_division=np.nan)
    with np.errstate(invalid="ignore"):
        return f1, np.bincount(labels, p_true, classes) / np.bincount(labels, minlength=classes)
