"""Cross-entropy with outliers, whose label is the uniform distribution."""

import keras
from keras import ops

from kls.losses.base import ClassifierLoss, log_probabilities, smoothed_cross_entropy, true_log_p
from kls.targets import smoothing_weights
from kls.utils.arrays import check_number
from kls.utils.tensors import holds_indices, squeeze_indices


@keras.saving.register_keras_serializable(package="kls")
class OutlierExposure(ClassifierLoss):
    """Cross-entropy on ID samples plus `weight` times that to the uniform distribution on outliers.

    `loss = H(q, p_in) + weight * H(U, p_out)`, equation 1 of Lee & Cheon 2020, "Soft labeling affects
    out-of-distribution detection of deep neural networks", after Hendrycks et al. 2019, "Deep anomaly detection with
    outlier exposure". `H(q, p_in)` is the mean over the ID samples of the batch, with labels smoothed as in
    `kls.SmoothedCE`, and `H(U, p_out) = -(1/K) sum_j log p_j` the mean over its outliers, whatever the two counts. A
    term without samples is 0. Under `tf.distribute` both are means over the global batch, however its outliers fall
    to the replicas.

    Args:
        gamma: Float in (1/K, 1]: the probability of the true class. K is known when the loss is first computed.
        weight: Finite float of at least 0: the weight of the outliers' term.
        from_logits: Whether `y_pred` are logits, as in `kls.SmoothedCE`.
        reduction: As in `keras.losses.Loss`. The mean over the batch, which is the default, gives the formula.
        name: Optional name.
        dtype: Dtype of the computation, `"float32"` or `"float64"`; `keras.backend.floatx()` by default.

    Call arguments:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, -1 for an outlier.
        y_pred: Shape `(N, K)`.
        sample_weight: Optional weights that multiply the losses per sample; the counts stay those of the samples.

    Returns:
        One loss in nats per sample, shape `(N,)`, before the reduction: `N / N_in` times the cross-entropy of a
        ID sample, `weight * N / N_out` times that of an outlier.

    Raises:
        ValueError: If `gamma` is outside (1/K, 1], if `weight` is negative or not finite, if the shapes do not fit,
            if a label is neither -1 nor one of 0..K-1, or if `y_pred` are no probabilities. Compiled code is as with
            `kls.SmoothedCE`.

    Example:

    >>> loss = OutlierExposure(weight=0.5)
    >>> round(float(loss([0, -1, -1], [[0.8, 0.2], [0.5, 0.5], [0.9, 0.1]])), 4)
    0.6974

    Usage with `compile()`, which takes the accuracy of the ID samples:

    ```python
    loss = kls.OutlierExposure(gamma=0.9)
    model.compile(optimizer="adam", loss=loss, metrics=[kls.metrics.IDAccuracy()])
    ```
    """

    def __init__(
        self,
        gamma=1.0,
        weight=0.5,
        from_logits=False,
        reduction="sum_over_batch_size",
        name="outlier_exposure",
        dtype=None,
    ):
        super().__init__(from_logits, reduction, name, dtype)
        self.gamma = check_number(gamma, "gamma", "(0, 1]")
        self.weight = check_number(weight, "weight", "[0, inf)")

    def call(self, y_true, y_pred):
        if not holds_indices(y_true, y_pred):
            raise ValueError(
                "`y_true` must hold class indices of shape (N,) or (N, 1), -1 for an outlier. "
                f"Received: y_true.shape={tuple(y_true.shape)}, y_pred.shape={tuple(y_pred.shape)}"
            )
        classes = y_pred.shape[-1]
        a, b = smoothing_weights(self.gamma, classes)
        log_p = log_probabilities(y_pred, self.from_logits)
        labels = squeeze_indices(y_true, y_pred)
        outlier = labels == -1
        labels = ops.where(outlier, ops.zeros_like(labels), labels)
        true_term = true_log_p(log_p, labels, besides=", or -1 for an outlier")
        id_loss = smoothed_cross_entropy(a, b, true_term, log_p)
        outlier_loss = -self.weight / classes * ops.sum(log_p, axis=-1) if self.weight else ops.zeros_like(id_loss)
        id_factor, outlier_factor = _factors_of_means(outlier, log_p.dtype)
        return ops.where(outlier, outlier_factor * outlier_loss, id_factor * id_loss)


def _factors_of_means(outlier, dtype):
    """Returns `N / N_in` and `N / N_out`, which make the mean over a batch those over its two parts.

    Keras divides each replica's sum by its own number of samples and by the number of replicas, so that their product
    takes the place of `N`; the counts below are those of the global batch.
    """
    counts = ops.stack([ops.sum(ops.cast(part, dtype)) for part in (ops.logical_not(outlier), outlier)])
    samples, totals = ops.sum(counts), counts
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        replicas = tf.distribute.get_replica_context()
        if replicas is not None and replicas.num_replicas_in_sync > 1:
            samples = replicas.num_replicas_in_sync * samples
            totals = replicas.all_reduce(tf.distribute.ReduceOp.SUM, counts)
    return ops.unstack(samples / ops.maximum(totals, 1))
