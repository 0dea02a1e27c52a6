"""A classifier that shares its trunk with a denoising autoencoder."""

from dataclasses import dataclass

from decathlon.augmentation import Noise
from decathlon.wrappers import Denoising as DenoisingBatches
from kls.losses import FocalStd
from kls.study.methods.base import Method
from kls.study.methods.registry import register


@register("denoising")
@dataclass(frozen=True)
class Denoising(Method):
    """`kls.FocalStd` of the class, and the mean squared error of the image cleaned of noise (Song's report).

    Its network is `denoising_classifier`.

    Attributes:
        deviation: Standard deviation of the Gaussian noise.
        sides: Smallest and largest side in pixels of its random square.
        focal: `k` of `kls.FocalStd`.
        std_weight: That of `kls.FocalStd`.
    """

    deviation: float = 0.3
    sides: tuple[int, int] = (10, 14)
    focal: float = 1.0
    std_weight: float = 1.0

    accuracy = "class_accuracy"
    whole = True

    @property
    def noise(self):
        """Its `decathlon.Noise`."""
        return Noise(self.deviation, self.sides)

    def check(self, trial, dataset):
        if trial.model != "denoising_classifier":
            raise ValueError(f"`model` must be denoising_classifier for denoising. Received: {trial.model}")

    def batches(self, training):
        return DenoisingBatches(training.batches(), self.noise)

    def validation(self, batches):
        return DenoisingBatches(batches, None)

    def loss(self, training):
        return {"class": FocalStd(self.focal, self.std_weight, from_logits=True), "image": "mse"}

    def metrics(self, loss, accuracy):
        return {"class": [accuracy]}
