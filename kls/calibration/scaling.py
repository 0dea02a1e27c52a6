"""Post-hoc calibration: scalers fitted to held-out logits. SciPy and scikit-learn do the optimisation.

One protocol: `fit(logits, y_true)` returns the scaler itself, `transform(logits)` the calibrated logits of shape
`(N, K)`, whose softmax are the calibrated probabilities (a logit of `-inf` is a probability of 0). Fit on data that the
network was not trained on, and judge on other data still.
"""

import copy

import keras
import numpy as np
from keras import ops

from kls.calibration.reliability import check_binning, width_bins
from kls.calibration.samples import CHUNK, as_indices, as_matrix, log_softmax, softmax
from kls.utils.arrays import check_bool, check_number, check_whole, shown
from kls.utils.notebook import facts_html

LEAST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-2, 1e2


class Scaler:
    """What all scalers share: their protocol, and what they take."""

    _classes = None

    def fit(self, logits, y_true):
        """Fits the scaler.

        Args:
            logits: Finite logits of shape `(N, K)`, of data that the network was not trained on.
            y_true: Class indices or one-hot labels.

        Returns:
            The scaler itself.

        Raises:
            ValueError: If logits or labels are not as above.
        """
        logits = _finite(logits)
        self._fit(logits, as_indices(y_true, *logits.shape))
        self._classes = logits.shape[1]
        return self

    def transform(self, logits):
        """Returns the calibrated logits.

        Args:
            logits: Finite logits of shape `(N, K)`, K as in `fit`.

        Returns:
            float64 array of shape `(N, K)`.

        Raises:
            ValueError: If the scaler is not fitted, or logits are not as above.
        """
        self._check_fitted()
        logits = _finite(logits)
        if logits.shape[1] != self._classes:
            raise ValueError(f"`logits` must have {self._classes} columns, as in `fit`. Received: {logits.shape[1]}")
        return self._transform(logits)

    def _check_fitted(self):
        if self._classes is None:
            raise ValueError(f"{type(self).__name__} is not fitted yet: call `fit(logits, y_true)` first.")

    def _facts(self):
        return {"fitted": "no" if self._classes is None else f"to {self._classes} classes"}

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in self._facts().items())})"

    def _repr_html_(self):
        return facts_html(type(self).__name__, self._facts())


class TemperatureScaling(Scaler):
    """Divides the logits by one temperature T (Guo et al. 2017, "On calibration of modern neural networks", 4.2).

    T minimises the negative log-likelihood of `softmax(logits / T)`. That is convex in 1/T, so that the minimum is
    where its derivative, `mean(sum_k p_k z_k - z_true)`, crosses zero, found by Brent's method. T never changes which
    class is the likeliest. It is sought in [0.01, 100]: where every prediction is right the smallest is best, where
    softer is always better the largest. Where all classes are equally likely in every row it is 1.

    Attributes:
        temperature: T, after `fit`.

    Example:

    >>> scaling = TemperatureScaling().fit([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]], [0, 0, 1])
    >>> round(scaling.temperature, 3)
    5.771
    """

    temperature = None

    def _fit(self, logits, labels):
        from scipy.optimize import brentq

        rows = max(1, CHUNK // logits.shape[1])
        parts = [slice(start, start + rows) for start in range(0, len(logits), rows)]

        def shifted(part):
            chunk = logits[part].astype(np.float64)
            return chunk - chunk.max(axis=1, keepdims=True)

        def mean(of_chunk):
            return np.concatenate([of_chunk(shifted(part), labels[part]) for part in parts]).mean()

        true_logit = mean(lambda chunk, true: chunk[np.arange(len(true)), true])

        def slope(inverse):
            return mean(lambda chunk, true: np.einsum("nk,nk->n", softmax(chunk * inverse), chunk)) - true_logit

        low, high = 1 / LARGEST_TEMPERATURE, 1 / LEAST_TEMPERATURE
        if not any(shifted(part).any() for part in parts):
            inverse = 1.0  # all classes equally likely at every temperature
        elif slope(low) > 0:
            inverse = low
        elif slope(high) <= 0:
            inverse = high
        else:
            inverse = brentq(slope, low, high, xtol=1e-12, rtol=1e-12)
        self.temperature = float(1 / inverse)

    def _transform(self, logits):
        return np.divide(logits, self.temperature, dtype=np.float64)

    @property
    def is_at_bound(self):
        """Whether the temperature is an end of the range in which it is sought, so that the best lies beyond."""
        return self.temperature in (LEAST_TEMPERATURE, LARGEST_TEMPERATURE)

    def _facts(self):
        if self.temperature is None:
            return super()._facts()
        return {"temperature": f"{self.temperature:.4g}" + " (end of the range searched)" * self.is_at_bound}

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
        self._check_fitted()
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
        super().__init__(autocast=False, **kwargs)  # float32 logits stay so under a mixed policy
        self.temperature = check_number(temperature, "temperature", "(0, inf)")
        self.from_logits = check_bool(from_logits, "from_logits")

    def call(self, inputs):
        if self.from_logits:
            return inputs / self.temperature
        return ops.softmax(ops.log(ops.maximum(inputs, 1e-37)) / self.temperature, axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature, "from_logits": self.from_logits}


class VectorScaling(Scaler):
    """Scales and shifts each class's logit, `w * logits + b` (Guo et al. 2017, section 4.2), by L-BFGS.

    Attributes:
        weights: w of shape `(K,)`, after `fit`.
        bias: b of shape `(K,)`, after `fit`.

    Example:

    >>> VectorScaling().fit([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1, 0]).weights.shape
    (2,)
    """

    weights = bias = None

    def _fit(self, logits, labels):
        classes = logits.shape[1]

        def expand(parameters):
            return np.diag(parameters[:classes]), parameters[classes:]

        def flatten(weights, bias):
            return np.concatenate([np.diag(weights), bias])

        matrix, self.bias = _minimize_nll(logits, labels, expand, flatten)
        self.weights = np.diag(matrix).copy()

    def _transform(self, logits):
        return logits * self.weights + self.bias


class MatrixScaling(Scaler):
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
        self.off_diagonal = check_number(off_diagonal, "off_diagonal", "[0, inf)")
        self.intercept = check_number(intercept, "intercept", "[0, inf)")
        self.weights = self.bias = None

    def _fit(self, logits, labels):
        classes = logits.shape[1]
        off = self.off_diagonal / (classes * (classes - 1)) * (1 - np.eye(classes))
        intercept = self.intercept / classes

        def expand(parameters):
            return parameters[: classes**2].reshape(classes, classes), parameters[classes**2 :]

        def flatten(weights, bias):
            return np.concatenate([weights.ravel(), bias])

        def penalty(weights, bias):
            value = (off * weights**2).sum() + intercept * (bias**2).sum()
            return value, 2 * off * weights, 2 * intercept * bias

        self.weights, self.bias = _minimize_nll(self._inputs(logits), labels, expand, flatten, penalty)

    def _transform(self, logits):
        return self._inputs(logits) @ self.weights.T + self.bias

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


class IsotonicScaling(Scaler):
    """Isotonic regression of each class's probability, one class against the rest (Zadrozny & Elkan 2002).

    The K calibrated probabilities are divided by their sum; where all are 0 each class gets 1/K. A probability may
    become exactly 0, and the negative log-likelihood then infinite.

    Example:

    >>> scaling = IsotonicScaling().fit([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1, 1])
    >>> softmax(scaling.transform([[2.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """

    def _fit(self, logits, labels):
        from sklearn.isotonic import IsotonicRegression

        self._regressions = [
            IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, labels == k)
            for k, p in enumerate(softmax(logits).T)
        ]

    def _transform(self, logits):
        columns = zip(self._regressions, softmax(logits).T, strict=True)
        return _normalized_log(np.stack([regression.predict(p) for regression, p in columns], axis=1))


class HistogramBinning(Scaler):
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

    shares = None

    def __init__(self, bins=15):
        check_binning(bins, "width", "guo")
        self.bins = bins

    def _fit(self, logits, labels):
        centres = (np.arange(self.bins) + 0.5) / self.bins
        self.shares = np.tile(centres, (logits.shape[1], 1))
        for k, p in enumerate(softmax(logits).T):
            index, _ = width_bins(p, self.bins)
            count = np.bincount(index, minlength=self.bins)
            hits = np.bincount(index, labels == k, self.bins)
            self.shares[k, count > 0] = hits[count > 0] / count[count > 0]

    def _transform(self, logits):
        columns = zip(self.shares, softmax(logits).T, strict=True)
        return _normalized_log(np.stack([shares[width_bins(p, self.bins)[0]] for shares, p in columns], axis=1))


SCALERS = {
    "temperature": TemperatureScaling,
    "vector": VectorScaling,
    "matrix": MatrixScaling,
    "dirichlet": DirichletScaling,
    "isotonic": IsotonicScaling,
    "histogram": HistogramBinning,
}


def cross_fitted(scaler, logits, y_true, seed=0):
    """Fits a scaler to each random half of the samples, to judge the other half by.

    Args:
        scaler: A scaler, which stays as it is.
        logits: Finite logits of shape `(N, K)`, N at least 2.
        y_true: Class indices or one-hot labels.
        seed: Integer from which the halves are drawn.

    Returns:
        Two pairs `(judged, fitted)`: the rows of one half, and a scaler fitted to the other.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> logits, labels = np.eye(2)[[0, 1, 0, 1]] * 3, np.array([0, 1, 1, 0])
    >>> [len(judged) for judged, _ in cross_fitted(TemperatureScaling(), logits, labels)]
    [2, 2]
    """
    if not isinstance(scaler, Scaler):
        raise ValueError(f"`scaler` must be a scaler of `kls.calibration`. Received: scaler={shown(scaler)}")
    logits = _finite(logits)
    labels = as_indices(y_true, *logits.shape)
    order = np.random.default_rng(check_whole(seed, "seed", 0)).permutation(len(labels))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    return [(judged, copy.deepcopy(scaler).fit(logits[seen], labels[seen])) for seen, judged in (halves, halves[::-1])]


def _minimize_nll(inputs, labels, expand, flatten, penalty=None):
    """Returns W and b of the least mean negative log-likelihood of `inputs @ W.T + b`, plus a penalty.

    L-BFGS works on inputs of unit size and on W in their unit, so that its steps fit whatever the logits' unit is.

    Args:
        inputs: Shape `(N, K)`; computed with in float64.
        labels: Class indices of shape `(N,)`.
        expand: Function of the free parameters to W of shape `(K, K)` and b of shape `(K,)`.
        flatten: Its inverse, for gradients too.
        penalty: Function of W and b to its value and its gradients.
    """
    from scipy.optimize import minimize

    rows, classes = np.arange(len(labels)), inputs.shape[1]
    inputs = inputs.astype(np.float64)
    unit = np.abs(inputs).mean() or 1.0
    inputs /= unit

    def objective(parameters):
        weights, bias = expand(parameters)
        log_p = log_softmax(inputs @ weights.T + bias)
        error = np.exp(log_p)
        value = -log_p[rows, labels].mean()
        error[rows, labels] -= 1
        error /= len(labels)
        by_weights, by_bias = error.T @ inputs, error.sum(axis=0)
        if penalty is not None:
            extra, extra_by_weights, extra_by_bias = penalty(weights / unit, bias)
            value += extra
            by_weights, by_bias = by_weights + extra_by_weights / unit, by_bias + extra_by_bias
        return value, flatten(by_weights, by_bias)

    start = flatten(unit * np.eye(classes), np.zeros(classes))
    options = {"maxiter": 10_000, "maxfun": 20_000, "ftol": 1e-14, "gtol": 1e-9}
    weights, bias = expand(minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x)
    return weights / unit, bias


def _finite(logits):
    """Returns logits as a float32 or float64 matrix; the scalers compute with it in float64."""
    logits = as_matrix(logits, "logits")
    wrong = np.flatnonzero(~(np.isfinite(logits.min(axis=1)) & np.isfinite(logits.max(axis=1))))
    if len(wrong):
        raise ValueError(f"`logits` must be finite. Received: row {wrong[0]} is {shown(logits[wrong[0]].tolist())}")
    return logits


def _normalized_log(probabilities):
    probabilities[probabilities.sum(axis=1) == 0] = 1.0
    with np.errstate(divide="ignore"):
        return np.log(probabilities / probabilities.sum(axis=1, keepdims=True))
