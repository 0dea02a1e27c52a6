"""Streaming twins of the calibration measures: Keras metrics of constant memory, for `compile(metrics=[...])`.

They keep sums, over bins where the measure has bins, so that any split of the data into batches or replicas gives
the same number as the function of `kls.calibration` on all data at once, up to float32's rounding of the sums. Labels
may be class indices, one-hot or mixed distributions; of a distribution the likeliest class counts, as in
`keras.metrics.CategoricalAccuracy`.
"""

import keras
from keras import ops

from kls.calibration.reliability import check_binning, width_edges


class _BinnedError(keras.metrics.Metric):
    """Sums of weights, predicted values and outcomes over equal-width bins, (lo, hi]."""

    def __init__(self, bins=15, from_logits=False, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        check_binning(bins, "width", "guo")
        self.bins = bins
        self.from_logits = from_logits
        self.weight = self.add_variable((bins,), "zeros", name="weight")
        self.predicted = self.add_variable((bins,), "zeros", name="predicted")
        self.observed = self.add_variable((bins,), "zeros", name="observed")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: Class indices of shape `(N,)` or `(N, 1)`, or distributions of shape `(N, K)`.
            y_pred: Class probabilities of shape `(N, K)`, or logits.
            sample_weight: Optional weights of shape `(N,)` or `(N, 1)`.
        """
        probabilities = _probabilities(y_pred, self.from_logits, self.dtype)
        correct = _correct(y_true, probabilities)
        predicted, observed = self.predicted_and_observed(probabilities, ops.cast(correct, self.dtype))
        inner_edges = ops.convert_to_tensor(width_edges(self.bins, self.dtype)[1:-1])
        bin_index = ops.sum(ops.cast(predicted[:, None] > inner_edges, "int32"), axis=-1)
        members = ops.one_hot(bin_index, self.bins, dtype=self.dtype)
        if sample_weight is not None:
            members = members * ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
        self.weight.assign_add(ops.sum(members, axis=0))
        self.predicted.assign_add(ops.sum(members * predicted[:, None], axis=0))
        self.observed.assign_add(ops.sum(members * observed[:, None], axis=0))

    def gaps(self):
        """Returns each bin's share of the weight and its |observed - predicted|."""
        filled = ops.maximum(self.weight, keras.config.epsilon())
        gap = ops.where(self.weight > 0, ops.abs(self.observed - self.predicted) / filled, 0.0)
        return self.weight / ops.maximum(ops.sum(self.weight), keras.config.epsilon()), gap

    def get_config(self):
        return {**super().get_config(), "bins": self.bins, "from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package="kls")
class ExpectedCalibrationError(_BinnedError):
    """Streaming `kls.calibration.expected_calibration_error`, over bins of equal width.

    Args:
        bins: Number of bins.
        norm: 1 (ECE), 2 (root of the mean square gap) or `"max"`.
        from_logits: Whether predictions are logits.
        name: Name of the metric.
        dtype: Dtype of the sums.

    Example:

    >>> metric = ExpectedCalibrationError(bins=10)
    >>> metric.update_state([0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    >>> round(float(metric.result()), 4)
    0.4

    Usage with `compile()`:

    ```python
    model.compile("adam", kls.SmoothedCE(0.9), metrics=["accuracy", kls.metrics.ExpectedCalibrationError()])
    ```
    """

    def __init__(self, bins=15, norm=1, from_logits=False, name="ece", dtype=None):
        super().__init__(bins, from_logits, name, dtype)
        if norm not in (1, 2, "max"):
            raise ValueError(f"`norm` must be 1, 2 or 'max'. Received: norm={norm!r}")
        self.norm = norm

    def predicted_and_observed(self, probabilities, correct):
        return ops.max(probabilities, axis=-1), correct

    def result(self):
        share, gap = self.gaps()
        if self.norm == "max":
            return ops.max(gap)
        return ops.sum(share * gap) if self.norm == 1 else ops.sqrt(ops.sum(share * gap**2))

    def get_config(self):
        return {**super().get_config(), "norm": self.norm}


@keras.saving.register_keras_serializable(package="kls")
class MaximumCalibrationError(_BinnedError):
    """Streaming `kls.calibration.maximum_calibration_error`, over bins of equal width.

    Args:
        bins: Number of bins.
        from_logits: Whether predictions are logits.
        name: Name of the metric.
        dtype: Dtype of the sums.

    Example:

    >>> metric = MaximumCalibrationError(bins=10)
    >>> metric.update_state([0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    >>> round(float(metric.result()), 4)
    0.8
    """

    def __init__(self, bins=15, from_logits=False, name="mce", dtype=None):
        super().__init__(bins, from_logits, name, dtype)

    def predicted_and_observed(self, probabilities, correct):
        return ops.max(probabilities, axis=-1), correct

    def result(self):
        return ops.max(self.gaps()[1])


@keras.saving.register_keras_serializable(package="kls")
class UncertaintyCalibrationError(_BinnedError):
    """Streaming `kls.calibration.uncertainty_calibration_error`, over bins of the normalised entropy.

    Args:
        bins: Number of bins.
        from_logits: Whether predictions are logits.
        name: Name of the metric.
        dtype: Dtype of the sums.

    Example:

    >>> metric = UncertaintyCalibrationError()
    >>> metric.update_state([0, 1], [[0.5, 0.5], [0.5, 0.5]])
    >>> round(float(metric.result()), 4)
    0.5
    """

    def __init__(self, bins=15, from_logits=False, name="uce", dtype=None):
        super().__init__(bins, from_logits, name, dtype)

    def predicted_and_observed(self, probabilities, correct):
        tiny = 1e-37  # x log x is 0 at 0
        entropy = -ops.sum(probabilities * ops.log(ops.maximum(probabilities, tiny)), axis=-1)
        return entropy / float(ops.log(float(probabilities.shape[-1]))), 1 - correct

    def result(self):
        share, gap = self.gaps()
        return ops.sum(share * gap)


@keras.saving.register_keras_serializable(package="kls")
class NegativeLogLikelihood(keras.metrics.Mean):
    """Streaming `kls.calibration.negative_log_likelihood`, in nats; nothing is clipped.

    Args:
        from_logits: Whether predictions are logits.
        name: Name of the metric.
        dtype: Dtype of the sum.

    Example:

    >>> metric = NegativeLogLikelihood(from_logits=True)
    >>> metric.update_state([0], [[0.0, 1000.0]])
    >>> float(metric.result())
    1000.0
    """

    def __init__(self, from_logits=False, name="nll", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.from_logits = from_logits

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch; arguments as in `ExpectedCalibrationError.update_state`."""
        y_pred = ops.cast(y_pred, self.dtype)
        log_p = ops.log_softmax(y_pred, axis=-1) if self.from_logits else ops.log(y_pred)
        labels = ops.expand_dims(_labels(y_true, log_p), axis=-1)
        values = -ops.squeeze(ops.take_along_axis(log_p, labels, axis=-1), axis=-1)
        super().update_state(values, _flat(sample_weight))

    def get_config(self):
        return {**super().get_config(), "from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package="kls")
class BrierScore(keras.metrics.Mean):
    """Streaming `kls.calibration.brier_score`, the sum over classes.

    Args:
        from_logits: Whether predictions are logits.
        name: Name of the metric.
        dtype: Dtype of the sum.

    Example:

    >>> metric = BrierScore()
    >>> metric.update_state([0], [[0.7, 0.2, 0.1]])
    >>> round(float(metric.result()), 4)
    0.14
    """

    def __init__(self, from_logits=False, name="brier", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.from_logits = from_logits

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch; arguments as in `ExpectedCalibrationError.update_state`."""
        probabilities = _probabilities(y_pred, self.from_logits, self.dtype)
        target = ops.one_hot(_labels(y_true, probabilities), probabilities.shape[-1], dtype=self.dtype)
        super().update_state(ops.sum((probabilities - target) ** 2, axis=-1), _flat(sample_weight))

    def get_config(self):
        return {**super().get_config(), "from_logits": self.from_logits}


def _probabilities(y_pred, from_logits, dtype):
    y_pred = ops.cast(y_pred, dtype)
    return ops.softmax(y_pred, axis=-1) if from_logits else y_pred


def _labels(y_true, y_pred):
    """Class indices of shape `(N,)`."""
    y_true = ops.convert_to_tensor(y_true)
    if len(y_true.shape) == 2 and y_true.shape[-1] == y_pred.shape[-1]:
        return ops.argmax(y_true, axis=-1)
    return ops.cast(ops.reshape(y_true, (-1,)), "int32")


def _correct(y_true, probabilities):
    predicted = ops.argmax(probabilities, axis=-1)
    return ops.equal(ops.cast(_labels(y_true, probabilities), "int32"), ops.cast(predicted, "int32"))


def _flat(sample_weight):
    return None if sample_weight is None else ops.reshape(ops.convert_to_tensor(sample_weight), (-1,))
