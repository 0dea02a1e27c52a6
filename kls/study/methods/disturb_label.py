"""DisturbLabel: some labels are drawn anew at each visit."""

from dataclasses import dataclass

import numpy as np

from decathlon.wrappers import Wrapper
from kls.losses import SmoothedCE
from kls.study.methods.base import Method
from kls.study.methods.registry import register
from kls.utils.arrays import check_number

DISTURBANCE = 100  # a stream of random numbers that is none of `decathlon.batches`


@register("disturb_label")
@dataclass(frozen=True)
class DisturbLabel(Method):
    """Cross-entropy with each label replaced, with a probability, by a class drawn uniformly from all K.

    Xie et al. 2016, "DisturbLabel: regularizing CNN on the loss layer", equation 2. The draws depend on the trial's
    seed, the epoch and the batch. The mean of the loss over the draws is that of label smoothing with
    `gamma = 1 - rate (K - 1) / K`.

    Attributes:
        rate: The probability, in [0, 1].
    """

    rate: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_number(self.rate, "rate", "[0, 1]")
        if self.mixing is not None:
            raise ValueError(f"`mixing` must be None: labels to disturb are class indices. Received: {self.mixing!r}")

    def batches(self, training):
        return Disturbed(training.batches(), self.rate)

    def loss(self, training):
        return SmoothedCE(1.0, training.from_logits)

    def compiled(self):
        return DisturbLabel(0.0, dropout=self.dropout)


class Disturbed(Wrapper):
    """Batches whose labels are drawn anew.

    Args:
        batches: `decathlon.Batches` with class indices.
        rate: The probability that a label is replaced.
    """

    def __init__(self, batches, rate):
        super().__init__(batches)
        self.rate = rate

    def batch(self, epoch, index):
        images, labels = self.batches.batch(epoch, index)
        rng = np.random.default_rng([DISTURBANCE, self.batches.seed, epoch, index])
        drawn = rng.integers(self.batches.classes, size=len(labels))
        return images, np.where(rng.random(len(labels)) < self.rate, drawn, labels)
