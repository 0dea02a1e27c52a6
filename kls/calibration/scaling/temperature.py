"""Temperature scaling, and the Keras layer that does it within a model."""

import keras
import numpy as np
from keras import ops

from kls.calibration.samples import CHUNK, softmax
from kls.calibration.scaling.base import Scaler
from kls.utils.arrays import check_bool, check_number

LEAST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-2, 1e2


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
    learned = ("temperature",)

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

    def formula(self, xp, logits):
        return logits / xp.as_float(self.temperature)

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
