"""Label distributions: pure functions on the backend's tensors."""

import math
import numbers

import keras
from keras import ops

from kls.calibration.samples import SUM_TOLERANCE
from kls.utils.arrays import as_numbers, check_choice, check_number, check_whole, shown


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
    _raise_where_eager(ops.logical_and(weight >= 0, weight <= 1), weight, "`weight` must lie in [0, 1]")
    while 0 < len(weight.shape) < len(first.shape):
        weight = ops.expand_dims(weight, axis=-1)
    return weight * first + (1 - weight) * second


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
    _raise_where_eager(known, labels, f"`{name}` must hold {kind} indices in 0..{classes - 1}{besides}")
    return ops.cast(ops.where(known, labels, ops.zeros_like(labels)), "int32"), known


def known_distributions(y_true):
    """Returns a mask that is false for each row that is no probability distribution.

    Args:
        y_true: Float tensor of shape `(..., K)`.

    Raises:
        ValueError: If there is such a row. Compiled code does not know the values and cannot raise.
    """
    known = _are_distributions(y_true)
    _raise_where_eager(known, y_true, "`y_true` must hold distributions, no entry below 0 and rows that sum to 1")
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
    if not _raise_where_eager(possible, predictions, rule) and keras.backend.backend() == "tensorflow":
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
    _raise_where_eager(known, weights, "`sample_weight` must not hold negative numbers")
    return ops.where(known, weights, ops.full_like(weights, float("nan")))


def _are_distributions(rows):
    near_one = ops.abs(ops.sum(rows, axis=-1) - 1) <= SUM_TOLERANCE
    return ops.logical_and(ops.all(rows >= 0, axis=-1), near_one)


def _raise_where_eager(known, values, rule):
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


def pack_teacher(y_true, teacher_logits):
    """Returns labels and teachers' logits side by side, as `kls.KnowledgeDistillation` takes its `y_true`.

    Args:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or distributions of shape `(N, K)`.
        teacher_logits: Shape `(N, K)`, or `(N, T, K)` of T teachers. Log-probabilities will do: softmax does not see a
            constant per sample.

    Returns:
        Tensor of shape `(N, (1 + T) K)`: `[one-hot or distribution | logits of teacher 1 | ... | of teacher T]`, of
        dtype float64 if the distributions or the logits are, else of `keras.config.floatx()`.

    Raises:
        ValueError: If the shapes do not fit, if they hold no real numbers, or if a class index is not one of 0..K-1.
            Compiled code cannot raise for the last: there the label is NaN, and so is a loss that takes it.

    Example:

    >>> ops.convert_to_numpy(pack_teacher([1], [[2.0, 3.0]])).tolist()
    [[0.0, 1.0, 2.0, 3.0]]
    """
    y_true = ops.convert_to_tensor(real_numbers(y_true, "y_true"))
    teacher_logits = ops.convert_to_tensor(real_numbers(teacher_logits, "teacher_logits"))
    if len(teacher_logits.shape) == 3:
        first, name = teacher_logits[:, 0], "teacher_logits[:, 0]"
        teacher_logits = ops.reshape(teacher_logits, (-1, math.prod(teacher_logits.shape[1:])))
    else:
        first, name = teacher_logits, "teacher_logits"
    indexed = holds_indices(y_true, first, name)
    kept = [teacher_logits] if indexed else [y_true, teacher_logits]
    doubled = any(keras.backend.standardize_dtype(values.dtype) == "float64" for values in kept)
    dtype = "float64" if doubled else keras.config.floatx()
    if indexed:
        classes = first.shape[-1]
        indices, known = known_indices(ops.cast(squeeze_indices(y_true, first), "float32"), classes)
        y_true = ops.where(ops.expand_dims(known, -1), ops.one_hot(indices, classes, dtype=dtype), float("nan"))
    return ops.concatenate([ops.cast(y_true, dtype), ops.cast(teacher_logits, dtype)], axis=-1)


def teachers_packed(y_true, y_pred):
    """Returns how many teachers' logits follow the label distributions, as static shapes tell: 0 in plain labels.

    Args:
        y_true: Labels of any form, or what `pack_teacher` returns.
        y_pred: Tensor of shape `(N, K)`, or with further leading axes.
    """
    *samples, classes = y_pred.shape
    shape = tuple(y_true.shape)
    if not samples or classes == 1 or not shapes_fit(shape[:-1], samples) or shape[-1] is None or shape[-1] % classes:
        return 0
    return shape[-1] // classes - 1


def unpack_teacher(packed, y_pred):
    """Returns the label distributions and a list of each teacher's logits: the inverse of `pack_teacher`.

    Args:
        packed: Tensor of shape `(N, (1 + T) K)`, or with further leading axes.
        y_pred: Tensor of shape `(N, K)`, or with the same further leading axes.

    Raises:
        ValueError: If the shapes do not fit, or if no teacher's logits are there.
    """
    teachers = teachers_packed(packed, y_pred)
    if not teachers:
        raise ValueError(
            "`y_true` must be of shape (N, (1 + T) K), as `kls.pack_teacher` returns it for T >= 1 teachers, for "
            f"`y_pred` of shape (N, K), K >= 2. Received: y_true.shape={tuple(packed.shape)}, "
            f"y_pred.shape={tuple(y_pred.shape)}"
        )
    label, *logits = ops.split(packed, 1 + teachers, axis=-1)
    return label, logits
