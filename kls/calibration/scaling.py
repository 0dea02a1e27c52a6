"""Post-hoc calibration: scalers fitted to held-out logits. SciPy and scikit-learn do the optimisation.

One protocol: `fit(logits, y_true)` returns the scaler itself, `transform(logits)` the calibrated logits of shape
`(N, K)`, whose softmax are the calibrated probabilities (a logit of `-inf` is a probability of 0). Fit on data that the
network was not trained on, and judge on other data still.
"""

import keras
import numpy as np
from keras import ops

from kls.calibration.reliability import check_binning, width_bins
from kls.calibration.samples import as_indices, as_matrix, log_softmax, softmax

LEAST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-2, 1e2


class TemperatureScaling:
    """Divides the logits by one temperature T (Guo et al. 2017, "On calibration of modern neural networks", 4.2).

    T minimises the negative log-likelihood of `softmax(logits / T)`. That is convex in 1/T, so that the minimum is
    where its derivative, `mean(sum_k p_k z_k - z_true)`, crosses zero, found by Brent's method. T never changes which
    class is the likeliest. It is sought in [0.01, 100]: where every prediction is right the smallest would be best,
    where none is the largest.

    Attributes:
        temperature: T, after `fit`.

    Example:

    >>> scaling = TemperatureScaling().fit([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]], [0, 0, 1])
    >>> round(scaling.temperature, 3)
    5.771
    """

    def __init__(self):
        self.temperature = None

    def fit(self, logits, y_true):
        """Finds the temperature.

        Args:
            logits: Finite logits of shape `(N, K)`.
            y_true: Class indices or one-hot labels.

        Returns:
            The scaler itself.

        Raises:
            ValueError: If logits or labels are not as above.
        """
        from scipy.optimize import brentq

        logits, labels = _checked(logits, y_true)
        shifted = logits - logits.max(axis=1, keepdims=True)
        true_logit = shifted[np.arange(len(labels)), labels].mean()

        def slope(inverse):
            return np.einsum("nk,nk->n", softmax(shifted * inverse), shifted).mean() - true_logit

        low, high = 1 / LARGEST_TEMPERATURE, 1 / LEAST_TEMPERATURE
        if slope(low) >= 0:
            inverse = low if slope(low) > 0 else 1.0  # zero all over where every row's logits are equal
        elif slope(high) <= 0:
            inverse = high
        else:
            inverse = brentq(slope, low, high, xtol=1e-12, rtol=1e-12)
        self.temperature = float(1 / inverse)
        return self

    def transform(self, logits):
        """Returns the logits divided by the temperature, float64 of shape `(N, K)`."""
        _check_fitted(self, self.temperature)
        return as_matrix(logits, "logits").astype(np.float64) / self.temperature

    def as_layer(self, from_logits=True, name=None):
        """Returns a Keras layer to append to the model.

        Args:
            from_logits: Whether the model returns logits, which the layer divides by T. Else it returns
                probabilities, and the layer their `softmax(log(p) / T)`.
            name: Optional name.

        Returns:
            A `TemperatureLayer`.

        Example:

        >>> scaling = TemperatureScaling().fit([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]], [0, 0, 1])
        >>> model = keras.Sequential([keras.Input((2,)), scaling.as_layer()])
        >>> [round(x, 3) for x in ops.convert_to_numpy(model(np.array([[4.0, 0.0]])))[0].tolist()]
        [0.693, 0.0]
        """
        _check_fitted(self, self.temperature)
        return TemperatureLayer(self.temperature, from_logits, name=name)


@keras.saving.register_keras_serializable(package="kls")
class TemperatureLayer(keras.layers.Layer):
    """Divides logits by a temperature; `TemperatureScaling.as_layer` makes one.

    Args:
        temperature: Float above 0.
        from_logits: Whether the inputs are logits. Else they are probabilities p and become `softmax(log(p) / T)`.
        **kwargs: As in `keras.layers.Layer`.

    Example:

    >>> ops.convert_to_numpy(TemperatureLayer(2.0)(np.array([[4.0, 0.0]]))).tolist()
    [[2.0, 0.0]]
    """

    def __init__(self, temperature, from_logits=True, **kwargs):
        super().__init__(**kwargs)
        if not temperature > 0:
            raise ValueError(f"`temperature` must be above 0. Received: temperature={temperature}")
        self.temperature = float(temperature)
        self.from_logits = from_logits

    def call(self, inputs):
        if self.from_logits:
            return inputs / self.temperature
        return ops.softmax(ops.log(ops.maximum(inputs, keras.config.epsilon())) / self.temperature, axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature, "from_logits": self.from_logits}


class VectorScaling:
    """Scales and shifts each class's logit, `w * logits + b` (Guo et al. 2017, section 4.2), by L-BFGS.

    Attributes:
        weights: w of shape `(K,)`, after `fit`.
        bias: b of shape `(K,)`, after `fit`.

    Example:

    >>> VectorScaling().fit([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1, 0]).weights.shape
    (2,)
    """

    def __init__(self):
        self.weights = self.bias = None

    def fit(self, logits, y_true):
        """Minimises the mean negative log-likelihood. Arguments, result and errors as in `TemperatureScaling.fit`."""
        logits, labels = _checked(logits, y_true)
        classes = logits.shape[1]

        def expand(parameters):
            return np.diag(parameters[:classes]), parameters[classes:]

        def gradient(by_weights, by_bias):
            return np.concatenate([np.diag(by_weights), by_bias])

        start = np.concatenate([np.ones(classes), np.zeros(classes)])
        matrix, self.bias = expand(_minimize_nll(logits, labels, start, expand, gradient))
        self.weights = np.diag(matrix).copy()
        return self

    def transform(self, logits):
        """Returns the scaled logits, float64 of shape `(N, K)`."""
        _check_fitted(self, self.weights)
        return as_matrix(logits, "logits") * self.weights + self.bias


class MatrixScaling:
    """Maps the logits linearly, `W logits + b` (Guo et al. 2017, section 4.2), by L-BFGS.

    The objective is the mean negative log-likelihood plus the off-diagonal and intercept penalty (ODIR) of Kull et al.
    2019, "Beyond temperature scaling": `off_diagonal / (K (K - 1)) sum_{i != j} W_ij^2 + intercept / K sum_i b_i^2`,
    without which K^2 + K parameters overfit.

    Args:
        off_diagonal: Weight of the penalty on W's off-diagonal, at least 0. Its authors choose both by
            cross-validation.
        intercept: Weight of the penalty on b, at least 0.

    Attributes:
        weights: W of shape `(K, K)`, after `fit`; row i makes calibrated logit i.
        bias: b of shape `(K,)`, after `fit`.

    Example:

    >>> MatrixScaling().fit([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1, 0]).weights.shape
    (2, 2)
    """

    def __init__(self, off_diagonal=1e-2, intercept=1e-2):
        if not (off_diagonal >= 0 and intercept >= 0):
            raise ValueError(
                f"`off_diagonal` and `intercept` must be at least 0. Received: {off_diagonal} and {intercept}"
            )
        self.off_diagonal = off_diagonal
        self.intercept = intercept
        self.weights = self.bias = None

    def fit(self, logits, y_true):
        """Minimises the objective. Arguments, result and errors as in `TemperatureScaling.fit`."""
        logits, labels = _checked(logits, y_true)
        inputs = self._inputs(logits)
        classes = inputs.shape[1]
        off = self.off_diagonal / (classes * (classes - 1)) * (1 - np.eye(classes))
        intercept = self.intercept / classes

        def expand(parameters):
            return parameters[: classes**2].reshape(classes, classes), parameters[classes**2 :]

        def gradient(by_weights, by_bias):
            return np.concatenate([by_weights.ravel(), by_bias])

        def penalty(weights, bias):
            value = (off * weights**2).sum() + intercept * (bias**2).sum()
            return value, gradient(2 * off * weights, 2 * intercept * bias)

        start = np.concatenate([np.eye(classes).ravel(), np.zeros(classes)])
        self.weights, self.bias = expand(_minimize_nll(inputs, labels, start, expand, gradient, penalty))
        return self

    def transform(self, logits):
        """Returns the mapped logits, float64 of shape `(N, K)`."""
        _check_fitted(self, self.weights)
        return self._inputs(as_matrix(logits, "logits").astype(np.float64)) @ self.weights.T + self.bias

    def _inputs(self, logits):
        return logits


class DirichletScaling(MatrixScaling):
    """Dirichlet calibration (Kull et al. 2019): matrix scaling of the log-probabilities, with the same penalty.

    `softmax(W log(p) + b)`, the posterior of classes whose predictions are Dirichlet distributed. Arguments and
    attributes are those of `MatrixScaling`.

    Example:

    >>> DirichletScaling().fit([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1, 0]).bias.shape
    (2,)
    """

    def _inputs(self, logits):
        return log_softmax(logits)


class IsotonicScaling:
    """Isotonic regression of each class's probability, one class against the rest (Zadrozny & Elkan 2002).

    The K calibrated probabilities are divided by their sum; where all are 0 each class gets 1/K. A probability may
    become exactly 0, and the negative log-likelihood then infinite.

    Example:

    >>> scaling = IsotonicScaling().fit([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1, 1])
    >>> softmax(scaling.transform([[2.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self):
        self._regressions = None

    def fit(self, logits, y_true):
        """Fits K isotonic regressions. Arguments, result and errors as in `TemperatureScaling.fit`."""
        from sklearn.isotonic import IsotonicRegression

        logits, labels = _checked(logits, y_true)
        self._regressions = [
            IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, labels == k)
            for k, p in enumerate(softmax(logits).T)
        ]
        return self

    def transform(self, logits):
        """Returns the calibrated log-probabilities, float64 of shape `(N, K)`."""
        _check_fitted(self, self._regressions)
        columns = zip(self._regressions, softmax(as_matrix(logits, "logits")).T, strict=True)
        return _normalized_log(np.stack([regression.predict(p) for regression, p in columns], axis=1))


class HistogramBinning:
    """Replaces each class's probability by the share of that class in its bin (Zadrozny & Elkan 2001).

    One class against the rest; the K shares are divided by their sum, and where all are 0 each class gets 1/K. A bin
    that was empty in `fit` keeps its centre.

    Args:
        bins: Number of bins of equal width in [0, 1].

    Attributes:
        shares: Array of shape `(K, bins)`, after `fit`.

    Example:

    >>> scaling = HistogramBinning(bins=2).fit([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1, 1])
    >>> scaling.shares.tolist()
    [[0.0, 0.5], [0.5, 1.0]]
    """

    def __init__(self, bins=15):
        check_binning(bins, "width", "guo")
        self.bins = bins
        self.shares = None

    def fit(self, logits, y_true):
        """Counts. Arguments, result and errors as in `TemperatureScaling.fit`."""
        logits, labels = _checked(logits, y_true)
        centres = (np.arange(self.bins) + 0.5) / self.bins
        self.shares = np.tile(centres, (logits.shape[1], 1))
        for k, p in enumerate(softmax(logits).T):
            index, _ = width_bins(p, self.bins)
            count = np.bincount(index, minlength=self.bins)
            hits = np.bincount(index, labels == k, self.bins)
            self.shares[k, count > 0] = hits[count > 0] / count[count > 0]
        return self

    def transform(self, logits):
        """Returns the calibrated log-probabilities, float64 of shape `(N, K)`."""
        _check_fitted(self, self.shares)
        columns = zip(self.shares, softmax(as_matrix(logits, "logits")).T, strict=True)
        return _normalized_log(np.stack([shares[width_bins(p, self.bins)[0]] for shares, p in columns], axis=1))


SCALERS = {
    "temperature": TemperatureScaling,
    "vector": VectorScaling,
    "matrix": MatrixScaling,
    "dirichlet": DirichletScaling,
    "isotonic": IsotonicScaling,
    "histogram": HistogramBinning,
}


def _minimize_nll(inputs, labels, start, expand, gradient, penalty=None):
    """Returns the parameters of the least mean negative log-likelihood of `inputs @ W.T + b`, plus a penalty."""
    from scipy.optimize import minimize

    rows = np.arange(len(labels))

    def objective(parameters):
        weights, bias = expand(parameters)
        log_p = log_softmax(inputs @ weights.T + bias)
        error = np.exp(log_p)
        value = -log_p[rows, labels].mean()
        error[rows, labels] -= 1
        error /= len(labels)
        slope = gradient(error.T @ inputs, error.sum(axis=0))
        if penalty is not None:
            extra, extra_slope = penalty(weights, bias)
            value, slope = value + extra, slope + extra_slope
        return value, slope

    return minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x


def _checked(logits, y_true):
    logits = as_matrix(logits, "logits").astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(wrong):
        raise ValueError(f"`logits` must be finite to fit a scaler. Received: row {wrong[0]} is {logits[wrong[0]]}")
    return logits, as_indices(y_true, *logits.shape)


def _check_fitted(scaler, fitted):
    if fitted is None:
        raise ValueError(f"{type(scaler).__name__} is not fitted yet: call `fit(logits, y_true)` first.")


def _normalized_log(probabilities):
    probabilities[probabilities.sum(axis=1) == 0] = 1.0
    with np.errstate(divide="ignore"):
        return np.log(probabilities / probabilities.sum(axis=1, keepdims=True))
