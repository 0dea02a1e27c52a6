"""Cross-entropy with smoothed labels."""

import keras
from keras import ops

from kls.losses.base import ClassifierLoss, label_cross_entropy, log_probabilities, smoothed_cross_entropy, true_log_p
from kls.targets import smoothing_weights
from kls.utils.arrays import check_number
from kls.utils.tensors import holds_indices, squeeze_indices


@keras.saving.register_keras_serializable(package="kls")
class SmoothedCE(ClassifierLoss):
    """Cross-entropy with smoothed labels: `gamma` on the true class, the rest shared by the others.

    `loss = -(a log p_true + b sum_j log p_j)` with `b = (1 - gamma) / (K - 1)` and `a = gamma - b`, which is the
    cross-entropy (equation 4) with the label distribution of equation 7 of Mezzini 2018, "Empirical study on
    label smoothing in neural networks". `gamma=1` is categorical cross-entropy. The formula is linear in the
    label, so one-hot and mixed label distributions (CutMix, MixUp, soft labels) are taken as well as class
    indices; class indices never become a one-hot matrix.

    Args:
        gamma: Float in (1/K, 1]: the probability of the true class. K is known when the loss is first computed.
        from_logits: Whether `y_pred` are logits. By default they are probabilities, which are normalised and
            clipped to [epsilon, 1 - epsilon] as `keras.losses.CategoricalCrossentropy` does. What cannot be
            probabilities (an entry below 0, a row whose sum is off 1 by more than 1 %) is refused.
        reduction: As in `keras.losses.Loss`: `"sum_over_batch_size"`, `"sum"`, `"mean"`,
            `"mean_with_sample_weight"` or `None`.
        name: Optional name.
        dtype: Dtype of the computation, `"float32"` or `"float64"`; `keras.backend.floatx()` by default.

    Call arguments:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or distributions of shape `(N, K)`. Further leading axes
            (dense predictions) are allowed in both arguments alike.
        y_pred: Shape `(N, K)`.

    Returns:
        One loss in nats per sample, shape `(N,)`, before the reduction.

    Raises:
        ValueError: If `gamma` is outside (1/K, 1], if the shapes do not fit, if a class index is not one of 0..K-1, or
            if a row is no distribution. Compiled code (`fit`, `tf.function`, `jax.jit`) cannot raise for the last two:
            there the loss of such a sample is NaN, which no mean hides.
        tf.errors.InvalidArgumentError: In a graph of TensorFlow without XLA, if `y_pred` are no probabilities.

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
        super().__init__(from_logits, reduction, name, dtype)
        self.gamma = check_number(gamma, "gamma", "(0, 1]")

    def call(self, y_true, y_pred):
        indices = holds_indices(y_true, y_pred)
        a, b = self.label_weights(y_pred.shape[-1])
        log_p = log_probabilities(y_pred, self.from_logits)
        if indices:
            true_term, mass = true_log_p(log_p, squeeze_indices(y_true, y_pred)), 1.0
        else:
            true_term, mass = -label_cross_entropy(y_true, log_p), ops.sum(y_true, axis=-1)
        return smoothed_cross_entropy(a, b, true_term, log_p, mass)

    def label_weights(self, classes):
        """Returns `(a, b)` of the label `a * one_hot + b`: two floats, or of a subclass two scalar tensors.

        Args:
            classes: Integer K >= 2.
        """
        return smoothing_weights(self.gamma, classes)
