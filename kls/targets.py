"""Softened labels: what gamma and epsilon mean, smoothing and mixing as pure functions on the backend's tensors."""

import numbers

import keras
from keras import ops

from kls.utils.arrays import check_number, check_whole, shown
from kls.utils.tensors import raise_where_eager, real_numbers, shapes_fit


def check_classes(classes):
    """Raises `ValueError` unless there are two classes or more.

    Args:
        classes: Integer K.
    """
    check_whole(classes, "classes", 2)


def check_gamma(gamma, classes):
    """Raises `ValueError` unless `gamma` leaves the true class the likeliest of `classes`, which are two or more.

    Args:
        gamma: Float in (1/K, 1].
        classes: Integer K >= 2.
    """
    check_classes(classes)
    if isinstance(gamma, bool) or not isinstance(gamma, numbers.Real) or not 1 / classes < gamma <= 1:
        raise ValueError(
            f"`gamma` must be in (1/K, 1], so that the true class stays the likeliest. "
            f"Received: gamma={shown(gamma)} with K={classes} classes (1/K={1 / classes:.4g})."
        )


def gamma_from_epsilon(epsilon, classes):
    """Returns the probability of the true class under uniform label smoothing.

    `gamma = 1 - epsilon * (K - 1) / K`: smoothing with `epsilon` (Szegedy et al. 2016, section 7) mixes the
    one-hot label with the uniform distribution over all K classes, the true one included, while `gamma`
    (Mezzini 2018, equation 7) is what is left for the true class.

    Args:
        epsilon: Float in [0, 1), as in `keras.losses.CategoricalCrossentropy(label_smoothing=epsilon)`.
        classes: Integer K >= 2.

    Returns:
        Float in (1/K, 1].

    Raises:
        ValueError: If `epsilon` is outside [0, 1) or `classes` is below 2.

    Example:

    >>> gamma_from_epsilon(0.1, classes=10)
    0.91
    """
    check_classes(classes)
    return 1 - check_number(epsilon, "epsilon", "[0, 1)") * (classes - 1) / classes


def epsilon_from_gamma(gamma, classes):
    """Returns the uniform smoothing that leaves `gamma` to the true class: the inverse of `gamma_from_epsilon`.

    `epsilon = (1 - gamma) * K / (K - 1)`.

    Args:
        gamma: Float in (1/K, 1].
        classes: Integer K >= 2.

    Returns:
        Float in [0, 1).

    Raises:
        ValueError: If `gamma` is outside (1/K, 1] or `classes` is below 2.

    Example:

    >>> round(epsilon_from_gamma(0.91, classes=10), 12)
    0.1
    """
    check_gamma(gamma, classes)
    return (1 - gamma) * classes / (classes - 1)


def smoothing_weights(gamma, classes):
    """Returns `(a, b)` of the smoothed label `a * one_hot + b`: b = (1 - gamma) / (K - 1), a = gamma - b.

    Args:
        gamma: Float in (1/K, 1].
        classes: Integer K >= 2.

    Returns:
        Two floats; a + K b = 1.

    Raises:
        ValueError: If `gamma` is outside (1/K, 1].
    """
    check_gamma(gamma, classes)
    b = (1 - gamma) / (classes - 1)
    return gamma - b, b


def smooth(labels, classes, gamma):
    """Returns smoothed label distributions.

    Mezzini 2018, equation 7: `gamma` for the true class, `(1 - gamma) / (K - 1)` for each other.

    Args:
        labels: Integer class indices of shape `(...)`, each in 0..K-1; one outside gives a row that sums to less.
        classes: Integer K >= 2.
        gamma: Float in (1/K, 1].

    Returns:
        Float tensor of shape `(..., K)`.

    Raises:
        ValueError: If `gamma` is outside (1/K, 1], or if `labels` are no integers.

    Example:

    >>> ops.convert_to_numpy(smooth([2], classes=3, gamma=0.5)).tolist()
    [[0.25, 0.25, 0.5]]
    """
    a, b = smoothing_weights(gamma, classes)
    labels = ops.convert_to_tensor(real_numbers(labels, "labels"))
    if not keras.backend.is_int_dtype(labels.dtype):
        raise ValueError(f"`labels` must be integers. Received: labels={shown(labels)}")
    return a * ops.one_hot(labels, classes) + b


def mix(first, second, weight):
    """Returns `weight * first + (1 - weight) * second`, the label of two mixed samples (Zhang et al. 2018).

    Args:
        first: Distributions of shape `(..., K)`.
        second: Distributions of the same shape.
        weight: Share of `first` in [0, 1]: a float, or one per sample, of the shape of the leading axes.

    Returns:
        Float tensor of the shape of `first`.

    Raises:
        ValueError: If the shapes do not fit, if they hold no real numbers, or if a share is outside [0, 1]. Compiled
            code cannot raise for the last.

    Example:

    >>> ops.convert_to_numpy(mix([[1.0, 0.0]], [[0.0, 1.0]], 0.25)).tolist()
    [[0.25, 0.75]]
    """
    given = {"first": first, "second": second, "weight": weight}
    if isinstance(weight, int | float):
        check_number(weight, "weight", "[0, 1]")
    first, second, weight = (
        ops.convert_to_tensor(real_numbers(values, name), dtype=keras.config.floatx()) for name, values in given.items()
    )
    if not shapes_fit(first.shape, second.shape):
        raise ValueError(
            "`first` and `second` must be of the same shape. "
            f"Received: shapes {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if not shapes_fit(weight.shape, first.shape[:-1][: len(weight.shape)]):
        raise ValueError(
            f"`weight` must be a number or of shape {tuple(first.shape[:-1])}. Received: shape {tuple(weight.shape)}"
        )
    raise_where_eager(ops.logical_and(weight >= 0, weight <= 1), weight, "`weight` must lie in [0, 1]")
    while 0 < len(weight.shape) < len(first.shape):
        weight = ops.expand_dims(weight, axis=-1)
    return weight * first + (1 - weight) * second
