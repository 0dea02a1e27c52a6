"""The first layer of a network that takes images as they are stored."""

import keras
import numpy as np

from kls.utils.arrays import as_numbers, shown

LEVELS = 255  # the largest value of a pixel


@keras.saving.register_keras_serializable(package="kls")
class Pixels(keras.layers.Layer):
    """Scales pixels from 0..255 to [0, 1] and subtracts the mean image: `x / 255 - mean`, in float32.

    As the first layer of a network it makes that take images as they are stored, uint8 or floats. The mean is a weight
    that is not trained: it is saved with the others, and no part of the layer's configuration. Outputs are float32
    under every dtype policy; the next layer casts them.

    Args:
        mean: Array of shape `(H, W, C)` in [0, 1], such as the mean of the training images; `None` only scales.
        **kwargs: As in `keras.layers.Layer`.

    Raises:
        ValueError: If `mean` is of another shape or range, or of another shape than the images that the layer is built
            for.

    Example:

    >>> images = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3, 1)
    >>> mean = np.full((1, 3, 1), 0.5, np.float32)
    >>> keras.ops.convert_to_numpy(Pixels(mean)(images)).ravel().astype(float).round(2).tolist()
    [-0.5, -0.3, 0.5]
    """

    def __init__(self, mean=None, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        self._initial = None if mean is None else _checked(mean)
        self.has_mean = mean is not None
        self.mean = None

    def build(self, input_shape):
        if not self.has_mean:
            return
        shape = tuple(input_shape[1:])
        if None in shape or (self._initial is not None and self._initial.shape != shape):
            wanted = "(H, W, C), all of them known" if self._initial is None else self._initial.shape
            raise ValueError(f"Images must be of shape {wanted}, that of `mean`. Received: images of shape {shape}")
        initializer = "zeros" if self._initial is None else lambda *_, **__: self._initial
        self.mean = self.add_weight(name="mean", shape=shape, initializer=initializer, trainable=False)

    def call(self, inputs):
        scaled = keras.ops.cast(inputs, self.compute_dtype) / LEVELS
        return scaled if self.mean is None else scaled - self.mean

    def get_config(self):
        return super().get_config() | {"has_mean": self.has_mean}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        has_mean = config.pop("has_mean")
        layer = cls(**config)
        layer.has_mean = has_mean
        return layer


def _checked(mean):
    array = as_numbers(mean, "mean").astype(np.float32)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"`mean` must be an array of shape (H, W, C). Received: mean={shown(mean)}")
    if not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"`mean` must lie in [0, 1]. Received: values in [{array.min():.4g}, {array.max():.4g}]")
    return array
