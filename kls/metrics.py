"""Streaming twins of the calibration metrics: Keras metrics of constant memory, for `compile(metrics=[...])`.

They keep sums, over bins where the metric has bins, so that any split of the data into batches or replicas gives
the same number as the function of `kls.calibration` on all data at once, up to float32's rounding of the sums. Labels
may be class indices, one-hot or mixed distributions; of a distribution the likeliest class counts, as in
`keras.metrics.CategoricalAccuracy`. What is no label, and a row that is no probabilities, is refused as by the losses:
`ValueError` where values are known, NaN in compiled code, and on TensorFlow's graphs an error for the latter.
"""

import math

import keras
from keras import ops

from kls.calibration.reliability import check_binning, width_edges
from kls.utils.arrays import check_bool, check_choice
from kls.utils.tensors import (
    check_dtype,
    holds_indices,
    known_distributions,
    known_indices,
    known_probabilities,
    known_weights,
    real_numbers,
    shapes_fit,
    squeeze_indices,
)


class _OfProbabilities(keras.metrics.Metric):
    """A metric of class probabilities, or of logits; a subclass adds a checked batch by `add`."""

    def __init__(self, from_logits, name, dtype):
        check_dtype(dtype)
        super().__init__(name=name, dtype=dtype)
        self.from_logits = check_bool(from_logits, "from_logits")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: Class indices of shape `(N,)` or `(N, 1)`, or distributions of shape `(N, K)`.
            y_pred: Class probabilities of shape `(N, K)`, or logits.
            sample_weight: Optional weights of shape `(N,)` or `(N, 1)`.
        """
        y_pred = _matrix(y_pred, self.dtype)
        labels, unknown = _labels_and_unknown(y_true, y_pred, self.from_logits)
        self.add(labels, y_pred, unknown, _flat(sample_weight, y_pred))

    def probabilities(self, y_pred):
        return ops.softmax(y_pred, axis=-1) if self.from_logits else y_pred

    def get_config(self):
        return {**super().get_config(), "from_logits": self.from_logits}


class _BinnedError(_OfProbabilities):
    """Sums of weights, predicted values and outcomes over equal-width bins, (lo, hi]."""

    def __init__(self, bins, from_logits, name, dtype):
        super().__init__(from_logits, name, dtype)
        check_binning(bins, "width", "guo")
        self.bins = bins
        self.weight, self.predicted, self.observed = (
            self.add_variable((bins,), "zeros", dtype=self.dtype, name=name)
            for name in ("weight", "predicted", "observed")
        )

    def add(self, labels, y_pred, unknown, weights):
        likeliest = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        correct = ops.cast(ops.equal(labels, likeliest), self.dtype)
        predicted, observed = self.predicted_and_observed(self.probabilities(y_pred), likeliest, correct)
        predicted = predicted + unknown
        inner_edges = ops.convert_to_tensor(width_edges(self.bins, self.dtype)[1:-1], dtype=self.dtype)
        bin_index = ops.sum(ops.cast(predicted[:, None] > inner_edges, "int32"), axis=-1)
        members = ops.one_hot(bin_index, self.bins, dtype=self.dtype)
        if weights is not None:
            members = members * ops.cast(weights, self.dtype)[:, None]
        self.weight.assign_add(ops.sum(members, axis=0))
        self.predicted.assign_add(ops.sum(members * predicted[:, None], axis=0))
        self.observed.assign_add(ops.sum(members * observed[:, None], axis=0))

    def predicted_and_observed(self, probabilities, likeliest, correct):
        """Returns what each sample predicts of itself, by which it is binned, and what is observed of it."""
        return _entry(probabilities, likeliest), correct

    def gaps(self):
        """Returns each bin's share of the weight and its |observed - predicted|."""
        gap = ops.abs(self.observed - self.predicted) / _or_one(self.weight)
        return self.weight / _or_one(ops.sum(self.weight)), gap

    def get_config(self):
        return {**super().get_config(), "bins": self.bins}


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
        self.norm = check_choice(norm, "norm", (1, 2, "max"))

    def result(self):
        share, gap = self.gaps()
        if self.norm == "max":
            return _largest(gap)
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

    def result(self):
        return _largest(self.gaps()[1])


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

    def predicted_and_observed(self, probabilities, likeliest, correct):
        tiny = 1e-37  # x log x is 0 at 0
        entropy = -ops.sum(probabilities * ops.log(ops.maximum(probabilities, tiny)), axis=-1)
        return ops.minimum(entropy / math.log(probabilities.shape[-1]), 1), 1 - correct

    def result(self):
        share, gap = self.gaps()
        return ops.sum(share * gap)


@keras.saving.register_keras_serializable(package="kls")
class NegativeLogLikelihood(_OfProbabilities, keras.metrics.Mean):
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
        super().__init__(from_logits, name, dtype)

    def add(self, labels, y_pred, unknown, weights):
        log_p = ops.log_softmax(y_pred, axis=-1) if self.from_logits else ops.log(y_pred)
        values = unknown - _entry(log_p, labels)
        if weights is not None:
            values = ops.where(weights == 0, ops.zeros_like(values), values)  # 0 * inf is no number
        keras.metrics.Mean.update_state(self, values, weights)


@keras.saving.register_keras_serializable(package="kls")
class BrierScore(_OfProbabilities, keras.metrics.Mean):
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
        super().__init__(from_logits, name, dtype)

    def add(self, labels, y_pred, unknown, weights):
        target = ops.one_hot(labels, y_pred.shape[-1], dtype=self.dtype)
        values = ops.sum((self.probabilities(y_pred) - target) ** 2, axis=-1)
        keras.metrics.Mean.update_state(self, unknown + values, weights)


@keras.saving.register_keras_serializable(package="kls")
class IDAccuracy(keras.metrics.Mean):
    """Accuracy over the samples whose label is not -1: the outliers of `kls.OutlierExposure` do not count.

    It takes class indices and distributions alike, of which the likeliest class counts, so that training on mixed
    labels and validation on class indices share it; `"accuracy"` takes the form of the first labels that it sees.

    Args:
        name: Name of the metric.
        dtype: Dtype of the sum.

    Example:

    >>> metric = IDAccuracy()
    >>> metric.update_state([0, 1, -1], [[0.9, 0.1], [0.8, 0.2], [0.5, 0.5]])
    >>> float(metric.result())
    0.5
    """

    def __init__(self, name="accuracy", dtype=None):
        check_dtype(dtype)
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: Class indices of shape `(N,)` or `(N, 1)`, -1 for an outlier, or distributions of shape `(N, K)`.
            y_pred: Class probabilities of shape `(N, K)`, or logits.
            sample_weight: Optional weights of shape `(N,)` or `(N, 1)`.
        """
        y_pred = _matrix(y_pred, self.dtype)
        y_true = ops.cast(ops.convert_to_tensor(real_numbers(y_true, "y_true")), self.dtype)
        if holds_indices(y_true, y_pred):
            y_true = squeeze_indices(y_true, y_pred)
            in_distribution = y_true != -1
            y_true = ops.where(in_distribution, y_true, ops.zeros_like(y_true))
        else:
            in_distribution = ops.ones_like(y_true[:, 0], dtype="bool")
        labels, unknown = _labels_and_unknown(y_true, y_pred, from_logits=True)  # the largest of any scores counts
        correct = unknown + ops.cast(ops.equal(labels, ops.cast(ops.argmax(y_pred, axis=-1), "int32")), self.dtype)
        weight = ops.cast(in_distribution, self.dtype)
        if sample_weight is not None:
            weight = weight * ops.cast(_flat(sample_weight, y_pred), self.dtype)
        super().update_state(ops.where(in_distribution, correct, ops.zeros_like(correct)), weight)


def _matrix(y_pred, dtype):
    """Returns predictions of shape `(N, K)`."""
    if getattr(y_pred, "_keras_mask", None) is not None:
        raise ValueError(
            "`y_pred` must not be masked: give `sample_weight` instead. Received: predictions with the mask of a layer"
        )
    y_pred = ops.cast(ops.convert_to_tensor(real_numbers(y_pred, "y_pred")), dtype)
    if len(y_pred.shape) != 2 or y_pred.shape[-1] < 2:
        raise ValueError(
            f"`y_pred` must be of shape (N, K) with K >= 2 classes. Received: y_pred.shape={tuple(y_pred.shape)}"
        )
    return y_pred


def _labels_and_unknown(y_true, y_pred, from_logits):
    """Returns class indices of shape `(N,)`, and NaN for each sample whose label or prediction is none, else 0.

    Compiled code cannot raise: a NaN makes the result NaN, which nobody takes for a metric.
    """
    y_true = ops.convert_to_tensor(real_numbers(y_true, "y_true"))
    if holds_indices(y_true, y_pred):
        labels, known = known_indices(ops.cast(squeeze_indices(y_true, y_pred), y_pred.dtype), y_pred.shape[-1])
    else:
        labels = ops.cast(ops.argmax(y_true, axis=-1), "int32")
        known = known_distributions(ops.cast(y_true, y_pred.dtype))
    fine = ops.logical_not(ops.isnan(ops.sum(y_pred, axis=-1))) if from_logits else known_probabilities(y_pred)
    nothing = ops.zeros_like(y_pred[:, 0])
    return labels, ops.where(ops.logical_and(known, fine), nothing, nothing + float("nan"))


def _entry(matrix, indices):
    """Returns the entry of each row at its index."""
    return ops.squeeze(ops.take_along_axis(matrix, indices[:, None], axis=-1), axis=-1)


def _or_one(weight):
    weight = ops.convert_to_tensor(weight)
    return ops.where(weight == 0, ops.ones_like(weight), weight)


def _largest(gap):
    """Returns the largest gap, NaN where one is: TensorFlow's maximum passes over NaN."""
    return ops.max(gap) + 0 * ops.sum(gap)


def _flat(sample_weight, y_pred):
    """Returns sample weights of shape `(N,)`, or `None`."""
    if sample_weight is None:
        return None
    weights = ops.convert_to_tensor(real_numbers(sample_weight, "sample_weight"))
    count = y_pred.shape[0]
    if not any(shapes_fit(tuple(weights.shape), shape) for shape in ((count,), (count, 1))):
        raise ValueError(
            "`sample_weight` must be of shape (N,) or (N, 1) for `y_pred` of shape (N, K). "
            f"Received: sample_weight.shape={tuple(weights.shape)}, y_pred.shape={tuple(y_pred.shape)}"
        )
    return known_weights(ops.reshape(weights, (-1,)))
