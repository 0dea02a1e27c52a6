"""Labels with teachers' logits beside them, and what the losses that take them share."""

import math

import keras
from keras import ops

from kls.losses.base import cross_entropy
from kls.utils.tensors import holds_indices, known_indices, real_numbers, shapes_fit, squeeze_indices


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


def tempered_cross_entropy(teachers, log_p, temperature):
    """Returns the cross-entropy to the mean of the teachers' distributions, all at the temperature."""
    logits = ops.stack(teachers)
    tempered = ops.softmax(logits / temperature, axis=-1)
    target = ops.sum(tempered, axis=0) / len(teachers)  # on JAX Keras takes means of float64 in float32
    value = cross_entropy(target, ops.log_softmax(log_p / temperature, axis=-1))
    unknown = ops.any(ops.isnan(logits), axis=(0, -1))  # XLA's `exp` makes a number of NaN on some processors
    return ops.where(unknown, float("nan"), value)
