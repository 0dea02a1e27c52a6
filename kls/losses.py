"""Losses on softened labels, each a `keras.losses.Loss` that works on every Keras backend."""

import keras
from keras import ops

from kls.targets import smoothing_weights


@keras.saving.register_keras_serializable(package="kls")
class SmoothedCE(keras.losses.Loss):
    """Cross-entropy with smoothed labels: `gamma` on the true class, the rest shared by the others.

    `loss = -(a log p_true + b sum_j log p_j)` with `b = (1 - gamma) / (K - 1)` and `a = gamma - b`, which is the
    cross-entropy (equation 4) with the label distribution of equation 7 of Mezzini 2018, "Empirical study on
    label smoothing in neural networks". `gamma=1` is categorical cross-entropy. The formula is linear in the
    label, so one-hot and mixed label distributions (CutMix, MixUp, soft labels) are taken as well as class
    indices; class indices never become a one-hot matrix.

    Args:
        gamma: Float in (1/K, 1]: the probability of the true class. K is known when the loss is first computed.
        from_logits: Whether `y_pred` are logits. By default they are probabilities, which are normalised and
            clipped to [epsilon, 1 - epsilon] as `keras.losses.CategoricalCrossentropy` does.
        reduction: As in `keras.losses.Loss`: `"sum_over_batch_size"`, `"sum"`, `"mean"`,
            `"mean_with_sample_weight"` or `None`.
        name: Optional name.
        dtype: Dtype of the computation, `"float32"` or `"float64"`; `keras.backend.floatx()` by default.

    Call arguments:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or distributions of shape `(N, K)`, whose rows are taken
            to sum to 1. Further leading axes (dense predictions) are allowed in both arguments alike.
        y_pred: Shape `(N, K)`.

    Returns:
        One loss in nats per sample, shape `(N,)`, before the reduction.

    Raises:
        ValueError: If `gamma` is outside (1/K, 1], if the shapes do not fit, or if a class index is not one of
            0..K-1. Compiled code (`fit`, `tf.function`, `jax.jit`) cannot raise for the last: there the loss of
            such a sample is NaN, which no mean hides.

    Example:

    >>> loss = SmoothedCE(gamma=0.8)
    >>> round(float(loss([0, 1], [[0.9, 0.05, 0.05], [0.1, 0.6, 0.3]])), 4)
    0.7214

    Usage with `compile()`:

    ```python
    model.compile(optimizer="adam", loss=kls.SmoothedCE(gamma=0.9, from_logits=True), metrics=["accuracy"])
    ```
    """

    def __init__(self, gamma=0.9, from_logits=False, reduction="sum_over_batch_size", name="smoothed_ce", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if keras.backend.standardize_dtype(self.dtype) not in ("float32", "float64"):
            raise ValueError(
                f"`dtype` must be float32 or float64, which hold every class index. Received: {self.dtype}"
            )
        if not 0 < gamma <= 1:
            raise ValueError(f"`gamma` must be in (1/K, 1] for K classes. Received: gamma={gamma}")
        self.gamma = float(gamma)
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        indices = _holds_indices(y_true, y_pred)
        a, b = smoothing_weights(self.gamma, y_pred.shape[-1])
        log_p = _log_probabilities(y_pred, self.from_logits)
        if indices:
            true_term, mass = _gather_true_class(log_p, _squeeze_indices(y_true, y_pred)), 1.0
        else:
            true_term, mass = ops.sum(y_true * log_p, axis=-1), ops.sum(y_true, axis=-1)
        if b == 0:
            return -true_term
        return -(a * true_term + b * mass * ops.sum(log_p, axis=-1))

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "from_logits": self.from_logits}


def _log_probabilities(y_pred, from_logits):
    """Log-probabilities of logits, or of probabilities as Keras's own cross-entropy takes them.

    Keras leaves the logits on the output of a softmax layer; like its own losses we use them where they are
    there, since the logarithm of a saturated softmax has no gradient.
    """
    logits = y_pred if from_logits else getattr(y_pred, "_keras_logits", None)
    if logits is not None:
        return ops.log_softmax(logits, axis=-1)
    epsilon = keras.config.epsilon()
    probabilities = y_pred / ops.sum(y_pred, axis=-1, keepdims=True)
    return ops.log(ops.clip(probabilities, epsilon, 1 - epsilon))


def _holds_indices(y_true, y_pred):
    *samples, classes = y_pred.shape
    true_samples, last = list(y_true.shape[: len(samples)]), tuple(y_true.shape[len(samples) :])
    if (
        samples
        and len(true_samples) == len(samples)
        and all(None in pair or pair[0] == pair[1] for pair in zip(true_samples, samples, strict=True))
    ):
        if last in ((), (1,)):
            return True
        if last == (classes,):
            return False
    raise ValueError(
        "`y_true` must hold class indices of shape (N,) or (N, 1), or distributions of shape (N, K) for `y_pred` "
        f"of shape (N, K). Received: y_true.shape={tuple(y_true.shape)}, y_pred.shape={tuple(y_pred.shape)}"
    )


def _squeeze_indices(y_true, y_pred):
    return ops.squeeze(y_true, axis=-1) if len(y_true.shape) == len(y_pred.shape) else y_true


def _gather_true_class(log_p, labels):
    classes = log_p.shape[-1]
    valid = ops.logical_and(ops.logical_and(labels >= 0, labels < classes), labels == ops.floor(labels))
    _raise_where_eager(valid, labels, classes)
    indices = ops.cast(ops.where(valid, labels, ops.zeros_like(labels)), "int32")
    true_term = ops.squeeze(ops.take_along_axis(log_p, ops.expand_dims(indices, -1), axis=-1), axis=-1)
    return ops.where(valid, true_term, ops.full_like(true_term, float("nan")))


def _raise_where_eager(valid, labels, classes):
    try:
        valid = ops.convert_to_numpy(valid)
    except (NotImplementedError, TypeError):  # a symbolic tensor of TensorFlow or JAX: its values are not known yet
        return
    if not valid.all():
        wrong = sorted(set(ops.convert_to_numpy(labels)[~valid].tolist()))
        raise ValueError(
            f"`y_true` must hold class indices in 0..{classes - 1}, as `y_pred` has {classes} columns. "
            f"Received: {wrong[:5]}{' ...' if len(wrong) > 5 else ''}"
        )
