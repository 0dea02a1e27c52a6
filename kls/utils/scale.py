"""Do images lie on the scale that a network was trained on, and do data that are given together share one?

Two signs, each of the first batch of a dataset. The first batch normalisation of a network keeps the moments of what
it saw in training: images that are 255 times too large make its inputs as many times too large. And images that are
given together have to reach equally far from 0, give or take. Neither sign is one of OOD data: noise, stripes, inverted
and constant images of the right scale change the deviation of those inputs by less than a factor of 3, and right images
by up to 10 after a single training step with momentum 0.99, of which the moving moments know little yet.

What cannot be known: a missing mean, which looks as other data do, and the scale of all data at once where a network
has no batch normalisation (or was not trained, or is no graph of layers) and no training data are given.
"""

from dataclasses import dataclass

import numpy as np
from keras import ops

FACTOR = 30  # that it takes to be another scale: above 3 times 10
ADVICE = "Give images as the network was trained on them, e.g. all through `decathlon.Batches`"


@dataclass(frozen=True)
class Pixels:
    """Range and moments of the pixels of images.

    Attributes:
        low: The least value.
        high: The largest.
        mean: Their mean.
        std: Their standard deviation.
    """

    low: float
    high: float
    mean: float
    std: float

    @classmethod
    def of(cls, images):
        """Returns those of an array of images."""
        images = np.asarray(images).astype(np.float64)
        return cls(*(float(value) for value in (images.min(), images.max(), images.mean(), images.std())))

    @property
    def reach(self):
        """The largest distance to 0."""
        return max(abs(self.low), abs(self.high))

    @property
    def is_constant(self):
        return self.low == self.high

    def factor(self, other):
        """Returns how many times as far as other images these reach; 1 where the smaller ones are constant."""
        smaller = min(self, other, key=lambda pixels: pixels.reach)
        return 1.0 if smaller.is_constant else self.reach / other.reach


def scale_remark(network, samples, reference=None):
    """Returns a sentence about the images that lie on another scale than the others or than those of the training.

    Args:
        network: The `kls.utils.feature_extractor.Network` that they are given to.
        samples: `{name: images of the first batch}`.
        reference: `(name, Pixels)` of what they are compared with; the first of the samples by default.

    Returns:
        The sentence, or `None` if there is nothing to say.
    """
    pixels = {name: Pixels.of(images) for name, images in samples.items()}
    trained = {name: factor_of_training(network, images) for name, images in samples.items()}
    first, among = reference or next(iter(pixels.items()))
    others = {name: found.factor(among) for name, found in pixels.items()}
    trained_on = "what the network was trained on, by its first batch normalisation"
    for source, factors in ((trained_on, trained), (first, others)):
        wrong = [f"{name} about {_times(factor)}" for name, factor in factors.items() if _is_other(factor)]
        if wrong:
            return f"Images lie on another scale than {source}: {', '.join(wrong)}. {ADVICE}."
    return None


def factor_of_training(network, images):
    """Returns how many times as large as in training the inputs of a network's first batch normalisation are.

    The ratio of the median deviations over the channels; it counts as smaller only if the means are smaller too, since
    the moving variance begins at 1, and if the images are not constant. 1 where nothing is known.

    Args:
        network: A `kls.utils.feature_extractor.Network`.
        images: A batch of images.
    """
    if network.first_norm is None:
        return 1.0
    norm, trunk = network.first_norm
    moving_mean, moving_deviation = (
        np.median(np.abs(values)) for values in (_numbers(norm.moving_mean), np.sqrt(_numbers(norm.moving_variance)))
    )
    if moving_mean == 0 or moving_deviation == 0:  # not trained, or nothing but dead channels
        return 1.0
    inputs = _numbers(trunk(ops.convert_to_tensor(images), training=False))
    inputs = np.moveaxis(inputs, norm.axis, -1).reshape(-1, len(_numbers(norm.moving_mean)))
    factor = np.median(inputs.std(axis=0)) / moving_deviation
    of_means = np.median(np.abs(inputs.mean(axis=0))) / moving_mean
    if factor < 1 and (of_means > 1 / FACTOR or Pixels.of(images).is_constant):
        return 1.0
    return float(factor)


def _is_other(factor):
    return not 1 / FACTOR <= factor <= FACTOR


def _times(factor):
    return f"{factor:,.0f} times larger" if factor > 1 else f"{1 / factor:,.0f} times smaller"


def _numbers(tensor):
    return ops.convert_to_numpy(tensor).astype(np.float64)
