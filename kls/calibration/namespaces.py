"""What formulas are written against, once: the float64 arrays of NumPy, or the float32 tensors of Keras.

A formula of scores or of scaling takes one of the two as `xp` and uses the names that NumPy and `keras.ops` share, and
those below.
"""

import numpy as np
from keras import ops

from kls.calibration.samples import log_softmax, softmax


class Namespace:
    """The functions of a module, and some that it lacks or that go by another name.

    Attributes:
        as_float: Function of an array to one of the dtype that formulas are computed in.
        lowest: The lowest finite number of that dtype.
        tiny: The least normal number above 0 of that dtype.
        softmax: Function of logits of shape `(N, K)` to class probabilities.
        log_softmax: Function of such logits to log-probabilities.
        kth_largest: Function of an array of shape `(N, D)` and k to the k-th largest of each row, shape `(N, 1)`.
    """

    def __init__(self, module, dtype, **others):
        self._module = module
        self.lowest, self.tiny = float(np.finfo(dtype).min), float(np.finfo(dtype).tiny)
        vars(self).update(others)

    def __getattr__(self, name):
        return getattr(self._module, name)


def _kth_largest(values, k):
    place = values.shape[1] - k
    return np.partition(values, place, axis=1)[:, place, None]


def _kth_largest_of_tensors(values, k):
    """By a sort: TensorFlow cannot read what JAX makes of `top_k`."""
    place = values.shape[1] - k
    return ops.sort(values, axis=1)[:, place : place + 1]


ARRAYS = Namespace(
    np,
    np.float64,
    as_float=lambda values: np.asarray(values, np.float64),
    softmax=softmax,
    log_softmax=log_softmax,
    kth_largest=_kth_largest,
)
TENSORS = Namespace(
    ops,
    np.float32,
    as_float=lambda values: ops.cast(values, "float32"),
    kth_largest=_kth_largest_of_tensors,
)
