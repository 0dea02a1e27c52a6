"""What all scalers share: their protocol, what they take, and fitting one to each half of the samples."""

import copy

import numpy as np

from kls.calibration.namespaces import ARRAYS
from kls.calibration.samples import as_indices, as_matrix
from kls.utils.arrays import check_whole, shown
from kls.utils.notebook import facts_html


class Scaler:
    """What all scalers share: their protocol, and what they take.

    Attributes:
        learned: Names of the attributes that `fit` sets and that `formula` computes with: arrays or numbers.
        formula: Function of `(xp, logits)` to the calibrated logits, written against a
            `kls.calibration.namespaces.Namespace` once, of arrays and of tensors alike; `None` where there is none.
    """

    learned = ()
    formula = None
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

    def _transform(self, logits):
        return self.formula(ARRAYS, logits)

    @property
    def fitted(self):
        return self._classes is not None

    def _check_fitted(self):
        if not self.fitted:
            raise ValueError(f"{type(self).__name__} is not fitted yet: call `fit(logits, y_true)` first.")

    def _facts(self):
        return {"fitted": "no" if not self.fitted else f"to {self._classes} classes"}

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in self._facts().items())})"

    def _repr_html_(self):
        return facts_html(type(self).__name__, self._facts())


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

    >>> from kls.calibration import TemperatureScaling
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


def cross_scaled(scaler, logits, y_true, seed=0):
    """Scales each random half of the samples by what was fitted to the other half.

    Args:
        scaler: As in `cross_fitted`.
        logits: As in `cross_fitted`.
        y_true: As in `cross_fitted`.
        seed: As in `cross_fitted`.

    Returns:
        The scaled logits, and the two scalers.
    """
    halves, scaled = cross_fitted(scaler, logits, y_true, seed), np.empty(np.shape(logits))
    for judged, fitted in halves:
        scaled[judged] = fitted.transform(logits[judged])
    return scaled, [fitted for _, fitted in halves]


def _finite(logits):
    """Returns logits as a float32 or float64 matrix; the scalers compute with it in float64."""
    logits = as_matrix(logits, "logits")
    wrong = np.flatnonzero(~(np.isfinite(logits.min(axis=1)) & np.isfinite(logits.max(axis=1))))
    if len(wrong):
        raise ValueError(f"`logits` must be finite. Received: row {wrong[0]} is {shown(logits[wrong[0]].tolist())}")
    return logits
