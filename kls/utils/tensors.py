"""Checks of labels, predictions and sample weights that are the backend's tensors."""

import keras
from keras import ops

from kls.utils.arrays import SUM_TOLERANCE, as_numbers, check_choice, shown


def check_dtype(dtype):
    """Raises `ValueError` unless a loss or metric of the dtype can count.

    Args:
        dtype: What Keras takes for one, or `None` for `keras.config.floatx()`.
    """
    try:
        found = keras.dtype_policies.get(dtype or keras.config.floatx()).compute_dtype
    except (ValueError, TypeError):
        found = dtype
    check_choice(found, "dtype", ("float32", "float64"))


def shapes_fit(shape, other):
    """Returns whether two static shapes can be the same; `None`, a length not known yet, fits every length.

    Args:
        shape: Tuple of integers and `None`.
        other: Likewise.
    """
    return len(shape) == len(other) and all(
        None in pair or pair[0] == pair[1] for pair in zip(shape, other, strict=True)
    )


def holds_indices(y_true, predictions, name="y_pred"):
    """Returns whether labels are class indices, not distributions, of which their shape alone decides.

    Args:
        y_true: Tensor of shape `(N,)`, `(N, 1)` or `(N, K)`, or with further leading axes.
        predictions: Tensor of shape `(N, K)`, or with the same further leading axes.
        name: What the error calls `predictions`.

    Raises:
        ValueError: If the shapes do not fit.
    """
    *samples, classes = predictions.shape
    last = tuple(y_true.shape[len(samples) :])
    if samples and classes != 1 and shapes_fit(y_true.shape[: len(samples)], samples):
        if last in ((), (1,)):
            return True
        if last == (classes,):
            return False
    raise ValueError(
        f"`y_true` must hold class indices of shape (N,) or (N, 1), or distributions of shape (N, K) for `{name}` "
        f"of shape (N, K), K >= 2. Received: y_true.shape={tuple(y_true.shape)}, "
        f"{name}.shape={tuple(predictions.shape)}"
    )


def squeeze_indices(y_true, predictions):
    """Returns class indices without the last axis of length 1, if they have one.

    Args:
        y_true: Tensor of shape `(N,)` or `(N, 1)`, or with further leading axes.
        predictions: Tensor of shape `(N, K)`, or with the same further leading axes.
    """
    return ops.squeeze(y_true, axis=-1) if len(y_true.shape) == len(predictions.shape) else y_true


def real_numbers(values, name):
    """Returns what holds real numbers as it is.

    Args:
        values: Tensor, array or nested lists.
        name: What the error calls them.

    Raises:
        ValueError: If they are strings, objects or complex numbers, or a masked array.
    """
    if not (ops.is_tensor(values) or isinstance(values, keras.Variable | keras.KerasTensor)):
        as_numbers(values, name)
    elif keras.backend.standardize_dtype(values.dtype).startswith(("string", "complex")):
        raise ValueError(f"`{name}` must be an array of real numbers. Received: {name}={shown(values)}")
    return values


def known_indices(labels, classes, besides="", name="y_true", kind="class"):
    """Returns labels as int32, 0 for each that is none of 0..K-1, and a mask that is false for those.

    Args:
        labels: Float tensor of class indices.
        classes: Integer K.
        besides: What the error says is allowed besides 0..K-1.
        name: What the error calls them.
        kind: What the error says that they count.

    Raises:
        ValueError: If a label is none of 0..K-1. Compiled code does not know the values and cannot raise.
    """
    known = ops.logical_and(ops.logical_and(labels >= 0, labels < classes), labels == ops.floor(labels))
    raise_where_eager(known, labels, f"`{name}` must hold {kind} indices in 0..{classes - 1}{besides}")
    return ops.cast(ops.where(known, labels, ops.zeros_like(labels)), "int32"), known


def known_distributions(y_true):
    """Returns a mask that is false for each row that is no probability distribution.

    Args:
        y_true: Float tensor of shape `(..., K)`.

    Raises:
        ValueError: If there is such a row. Compiled code does not know the values and cannot raise.
    """
    known = _are_distributions(y_true)
    raise_where_eager(known, y_true, "`y_true` must hold distributions, no entry below 0 and rows that sum to 1")
    return known


def known_probabilities(predictions, name="y_pred"):
    """Returns a mask that is false for each row that is no probability distribution, as rows of logits are not.

    Args:
        predictions: Float tensor of shape `(..., K)`.
        name: What the error calls them.

    Raises:
        ValueError: If there is such a row. One with NaN, as of a training that has diverged, is not refused.
            TensorFlow's graphs raise `tf.errors.InvalidArgumentError`; code that XLA compiles, as on JAX, cannot raise.
    """
    known = _are_distributions(predictions)
    possible = ops.logical_or(known, ops.isnan(ops.sum(predictions, axis=-1)))
    rule = (
        f"`{name}` must be probabilities, no entry below 0 and rows that sum to 1: "
        "pass from_logits=True or end the model in softmax"
    )
    if not raise_where_eager(possible, predictions, rule) and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.debugging.Assert(tf.reduce_all(possible), [rule])
    return known


def known_weights(weights):
    """Returns sample weights as floats, NaN for each that is negative.

    Args:
        weights: Tensor of real numbers.

    Raises:
        ValueError: If there is such a one. Compiled code does not know the values and cannot raise.
    """
    if not keras.backend.is_float_dtype(weights.dtype):
        weights = ops.cast(weights, keras.config.floatx())
    known = ops.logical_not(weights < 0)
    raise_where_eager(known, weights, "`sample_weight` must not hold negative numbers")
    return ops.where(known, weights, ops.full_like(weights, float("nan")))


def _are_distributions(rows):
    near_one = ops.abs(ops.sum(rows, axis=-1) - 1) <= SUM_TOLERANCE
    return ops.logical_and(ops.all(rows >= 0, axis=-1), near_one)


def raise_where_eager(known, values, rule):
    """Raises `ValueError` where a value or row is not known, and returns whether there was anything to look at."""
    try:
        known = ops.convert_to_numpy(known)
    except (NotImplementedError, TypeError):  # a symbolic tensor of TensorFlow or JAX: its values are not known yet
        return False
    if not known.all():
        wrong = ops.convert_to_numpy(ops.stop_gradient(values))[~known]  # which JAX traces for their gradient
        received = sorted(set(wrong.tolist())) if wrong.ndim == 1 else wrong[0].astype(float).round(4).tolist()
        raise ValueError(f"{rule}. Received: {shown(received)}")
    return True
