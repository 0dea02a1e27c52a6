"""What the losses share: their arguments, the logarithms of predictions, cross-entropies."""

import inspect

import keras
from keras import ops

from kls.utils.arrays import check_bool
from kls.utils.tensors import check_dtype, known_distributions, known_indices, known_probabilities, real_numbers


class ClassifierLoss(keras.losses.Loss):
    """What the losses share: checks of what they are given, a config of all arguments, and a short `repr`.

    A loss keeps the arguments of its own as attributes of their names.

    Args:
        from_logits: Whether `y_pred` are logits.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`, which hold every class index; `keras.backend.floatx()` by default.
    """

    def __init__(self, from_logits, reduction, name, dtype):
        check_dtype(dtype)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits = check_bool(from_logits, "from_logits")

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            real_numbers(sample_weight, "sample_weight")
        given = {"y_true": y_true, "y_pred": y_pred}
        tensors = (ops.convert_to_tensor(real_numbers(values, name), self.dtype) for name, values in given.items())
        return super().__call__(*tensors, sample_weight)

    def __repr__(self):
        config = self.get_config()
        arguments = [f"{name}={config[name]!r}" for name in self._own_arguments()]
        return f"{type(self).__name__}({', '.join(arguments)})"

    def get_config(self):
        own = {name: getattr(self, name) for name in self._own_arguments()}
        return {**super().get_config(), "dtype": self.dtype, **own}

    def _own_arguments(self):
        return [name for name in inspect.signature(type(self)).parameters if name not in ("reduction", "name", "dtype")]


def label_cross_entropy(y_true, log_p):
    """Returns `-sum_k q_k log p_k` of label distributions q, NaN where a row is none.

    Args:
        y_true: Shape `(..., K)`.
        log_p: Likewise.

    Raises:
        ValueError: If a row is no distribution. Compiled code cannot raise.
    """
    return ops.where(known_distributions(y_true), cross_entropy(y_true, log_p), float("nan"))


def cross_entropy(target, log_p):
    """Returns `-sum_k target_k log p_k`, of any target."""
    return -ops.sum(target * log_p, axis=-1)


def log_probabilities(y_pred, from_logits, name="y_pred"):
    """Returns log-probabilities of logits, or of probabilities as Keras's own cross-entropy takes them.

    Args:
        y_pred: Shape `(..., K)`.
        from_logits: Whether `y_pred` are logits. If not, a row that can be no probabilities gives NaN.
        name: What the error calls `y_pred`.

    Raises:
        ValueError: If there is such a row: see `kls.utils.tensors.known_probabilities`, also for compiled code.
    """
    logits = logits_of(y_pred, from_logits)
    if logits is not None:
        log_p = ops.log_softmax(logits, axis=-1)
    else:
        epsilon = keras.config.epsilon()
        probabilities = y_pred / ops.sum(y_pred, axis=-1, keepdims=True)
        log_p = ops.log(ops.clip(probabilities, epsilon, 1 - epsilon))
    if from_logits:
        return log_p
    known = known_probabilities(y_pred, name)  # also where logits are known: they may be those of a sigmoid
    return ops.where(ops.expand_dims(known, -1), log_p, float("nan"))


def logits_of(y_pred, from_logits):
    """Returns the logits of predictions, or `None` where only probabilities are known.

    Keras leaves the logits on the output of a softmax layer; like its own losses we use them where they are
    there, since the logarithm of a saturated softmax has no gradient.
    """
    return y_pred if from_logits else getattr(y_pred, "_keras_logits", None)


def true_log_p(log_p, labels, besides=""):
    """Returns the log-probabilities of the true classes, NaN where a label is no class index: see `known_indices`."""
    indices, known = known_indices(labels, log_p.shape[-1], besides)
    true_term = ops.squeeze(ops.take_along_axis(log_p, ops.expand_dims(indices, -1), axis=-1), axis=-1)
    return ops.where(known, true_term, ops.full_like(true_term, float("nan")))


def smoothed_cross_entropy(a, b, true_term, log_p, mass=1.0):
    """Returns the cross-entropy to `a q + b` of labels q that sum to `mass`; `true_term` is the sum of `q log p`."""
    if isinstance(b, float) and b == 0:
        return -true_term
    return -(a * true_term + b * mass * ops.sum(log_p, axis=-1))
