"""Linear maps of the logits or log-probabilities: vector, matrix and Dirichlet scaling."""

import numpy as np

from kls.calibration.namespaces import ARRAYS
from kls.calibration.samples import log_softmax
from kls.calibration.scaling.base import Scaler
from kls.utils.arrays import check_number


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
    learned = ("weights", "bias")

    def _fit(self, logits, labels):
        matrix, self.bias = _minimize_nll(logits, labels, np.eye(logits.shape[1], dtype=bool))
        self.weights = np.diag(matrix).copy()

    def formula(self, xp, logits):
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

    learned = ("weights", "bias")

    def __init__(self, off_diagonal=1e-2, intercept=1e-2):
        self.off_diagonal = check_number(off_diagonal, "off_diagonal", "[0, inf)")
        self.intercept = check_number(intercept, "intercept", "[0, inf)")
        self.weights = self.bias = None

    def _fit(self, logits, labels):
        free = np.ones((logits.shape[1],) * 2, bool)
        self.weights, self.bias = _minimize_nll(
            self._inputs(ARRAYS, logits), labels, free, self.off_diagonal, self.intercept
        )

    def formula(self, xp, logits):
        return xp.matmul(self._inputs(xp, logits), xp.transpose(self.weights)) + self.bias

    def _inputs(self, xp, logits):
        return logits


class DirichletScaling(MatrixScaling):
    """Dirichlet calibration (Kull et al. 2019): matrix scaling of the log-probabilities, with the same penalty.

    `softmax(W log(p) + b)`, the posterior of classes whose predictions are Dirichlet distributed. Arguments and
    attributes are those of `MatrixScaling`.

    Example:

    >>> DirichletScaling().fit([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1, 0]).bias.shape
    (2,)
    """

    def _inputs(self, xp, logits):
        return xp.log_softmax(logits)


def _minimize_nll(inputs, labels, free, off_diagonal=0.0, intercept=0.0):
    """Returns W and b of the least mean negative log-likelihood of `inputs @ W.T + b`, plus the penalty ODIR.

    L-BFGS works on inputs of unit size and on W in their unit, so that its steps fit whatever the logits' unit is.

    Args:
        inputs: Shape `(N, K)`; computed with in float64.
        labels: Class indices of shape `(N,)`.
        free: Which entries of W are fitted, bool of shape `(K, K)`; the others are 0.
        off_diagonal: Weight of the penalty on W's off-diagonal.
        intercept: Weight of the penalty on b.
    """
    from scipy.optimize import minimize

    rows, classes = np.arange(len(labels)), inputs.shape[1]
    off_diagonal = off_diagonal / (classes * (classes - 1)) * (1 - np.eye(classes))
    intercept = intercept / classes
    inputs = inputs.astype(np.float64)
    unit = np.abs(inputs).mean() or 1.0
    inputs /= unit

    def expand(parameters):
        weights = np.zeros((classes, classes))
        weights[free], bias = np.split(parameters, [-classes])
        return weights, bias

    def flatten(weights, bias):
        return np.concatenate([weights[free], bias])

    def objective(parameters):
        weights, bias = expand(parameters)
        log_p = log_softmax(inputs @ weights.T + bias)
        error = np.exp(log_p)
        value = -log_p[rows, labels].mean()
        error[rows, labels] -= 1
        error /= len(labels)
        in_unit = weights / unit
        value += (off_diagonal * in_unit**2).sum() + intercept * (bias**2).sum()
        by_weights = error.T @ inputs + 2 * off_diagonal * in_unit / unit
        return value, flatten(by_weights, error.sum(axis=0) + 2 * intercept * bias)

    start = flatten(unit * np.eye(classes), np.zeros(classes))
    options = {"maxiter": 10_000, "maxfun": 20_000, "ftol": 1e-14, "gtol": 1e-9}
    weights, bias = expand(minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x)
    return weights / unit, bias
