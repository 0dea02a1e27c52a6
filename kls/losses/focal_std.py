"""Cross-entropy with penalties on confident and on uneven wrong scores."""

import keras
from keras import ops

from kls.losses.base import ClassifierLoss, label_cross_entropy, log_probabilities, logits_of, true_log_p
from kls.utils.arrays import check_bool, check_number
from kls.utils.tensors import holds_indices, squeeze_indices


@keras.saving.register_keras_serializable(package="kls")
class FocalStd(ClassifierLoss):
    """Cross-entropy with a penalty on confident wrong scores, and one on uneven scores of wrong predictions.

    `loss = L_focal + std_weight * L_std`, equations 3 and 4 of Song, "Deep Learning Lab final project report", Yonsei
    University:

    - `L_focal = -log p_t - k sum_{i != t} p_i log(1 - p_i)` for the true class `t`. The printed minus sign is taken to
      stand before the whole sum, so both terms are penalties. Unlike the focal loss of Lin et al. 2017, which weighs
      down easy samples, it adds to the loss of confident errors.
    - `L_std = 1[t != argmax p] std(p)` with the standard deviation over the K classes, `sqrt(mean_i (p_i - 1/K)^2)`.
      The paper does not say whether it divides by K or by K - 1. The indicator carries no gradient.

    Equation 4 is printed with a minus sign, which rewards wrong predictions for being uneven. The text wants the
    opposite ("making the scores even", "evenly-low scores for difficult samples"), and so does this loss unless
    `as_printed`.

    Equation 3 is linear in the label, so distributions q are taken as well as class indices:
    `L_focal = -sum_i q_i log p_i - k sum_i (1 - q_i) p_i log(1 - p_i)`, and `t = argmax q` in equation 4. `k=0` and
    `std_weight=0` make it categorical cross-entropy.

    Whose values: `k=1` is the paper's ("k around 1", section 3.3). Its Figure 4 shows coefficients of 0, 1 and 5, of
    which `std_weight=1` is one; its text warns that too large a coefficient of the deviation costs accuracy.

    Args:
        k: Finite float of at least 0: the weight of the wrong classes' scores.
        std_weight: Finite float of at least 0: the weight of the standard deviation.
        from_logits: Whether `y_pred` are logits. By default they are probabilities, taken as in `kls.SmoothedCE`;
            `1 - p` is clipped at epsilon too. From logits, `log(1 - p)` is right even where softmax rounds `p` to 1.
        as_printed: Whether to subtract the standard deviation, as equation 4 is printed.
        reduction: As in `keras.losses.Loss`.
        name: Optional name.
        dtype: Dtype of the computation, `"float32"` or `"float64"`; `keras.backend.floatx()` by default.

    Call arguments:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or distributions of shape `(N, K)`. Further leading axes
            (dense predictions) are allowed in both arguments alike.
        y_pred: Shape `(N, K)`.

    Returns:
        One loss per sample, shape `(N,)`, before the reduction: `L_focal` in nats, `L_std` a difference of
        probabilities.

    Raises:
        ValueError: If `k` or `std_weight` is negative or not finite, if the shapes do not fit, if a class index is not
            one of 0..K-1, or if a row is no distribution. Compiled code is as with `kls.SmoothedCE`.

    Example:

    >>> loss = FocalStd(k=1.0, std_weight=1.0)
    >>> round(float(loss([0], [[0.2, 0.7, 0.1]])), 4)
    2.7252

    Usage with `compile()`:

    ```python
    model.compile(optimizer="adam", loss=kls.FocalStd(from_logits=True), metrics=["accuracy"])
    ```
    """

    def __init__(
        self,
        k=1.0,
        std_weight=1.0,
        from_logits=False,
        as_printed=False,
        reduction="sum_over_batch_size",
        name="focal_std",
        dtype=None,
    ):
        super().__init__(from_logits, reduction, name, dtype)
        self.k = check_number(k, "k", "[0, inf)")
        self.std_weight = check_number(std_weight, "std_weight", "[0, inf)")
        self.as_printed = check_bool(as_printed, "as_printed")

    def call(self, y_true, y_pred):
        indices = holds_indices(y_true, y_pred)
        classes = y_pred.shape[-1]
        log_p = log_probabilities(y_pred, self.from_logits)
        if indices:
            labels = squeeze_indices(y_true, y_pred)
            cross_entropy = -true_log_p(log_p, labels)
            besides = ops.cast(ops.expand_dims(labels, -1) != ops.arange(classes, dtype=labels.dtype), log_p.dtype)
        else:
            labels = ops.cast(ops.argmax(y_true, axis=-1), log_p.dtype)
            cross_entropy = label_cross_entropy(y_true, log_p)
            besides = 1 - y_true
        p = ops.exp(log_p)
        wrong_scores = -ops.sum(besides * p * _log_complements(y_pred, self.from_logits), axis=-1)
        wrong = ops.cast(labels != ops.cast(ops.argmax(log_p, axis=-1), labels.dtype), log_p.dtype)
        std_weight = -self.std_weight if self.as_printed else self.std_weight
        return cross_entropy + self.k * wrong_scores + std_weight * wrong * _deviation_from_uniform(p)


def _log_complements(y_pred, from_logits):
    """Returns `log(1 - p)` of every class.

    Of a class above 1/2, whose softmax may be rounded to 1, it is the logarithm of what the others sum to; at most 1/2,
    `log1p(-p)` loses nothing.
    """
    logits = logits_of(y_pred, from_logits)
    if logits is None:
        p = y_pred / ops.sum(y_pred, axis=-1, keepdims=True)
        return ops.log(ops.clip(1 - p, keras.config.epsilon(), 1))
    log_p = ops.log_softmax(logits, axis=-1)
    p = ops.exp(log_p)
    likely = p > 0.5
    none = ops.full_like(log_p, -1e30)  # not -inf, whose gradient is NaN where the other logits are -inf as well
    log_rest = ops.logsumexp(ops.where(likely, none, log_p), axis=-1, keepdims=True)
    return ops.where(likely, log_rest, ops.log1p(-ops.where(likely, ops.zeros_like(p), p)))


def _deviation_from_uniform(p):
    """Returns the standard deviation of probabilities over the classes.

    Where they are uniform but for rounding, it and its gradient are 0: there the root would lend the rounding errors a
    gradient as large as any.
    """
    uniform = 1 / p.shape[-1]
    variance = uniform * ops.sum(ops.square(p - uniform), axis=-1)  # on JAX Keras takes means of float64 in float32
    uneven = variance > (1e-6 * uniform) ** 2
    root = ops.sqrt(ops.where(uneven, variance, ops.ones_like(variance)))
    return ops.where(uneven, root, ops.zeros_like(root))
