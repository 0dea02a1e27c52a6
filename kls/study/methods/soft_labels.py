"""Label distributions of the user's own, such as those of people, in place of labels."""

import hashlib
from dataclasses import dataclass, field
from os import PathLike

import numpy as np

from kls.losses import SmoothedCE
from kls.study.methods.base import Method
from kls.study.methods.registry import register


@register("soft_labels")
@dataclass(frozen=True)
class SoftLabels(Method):
    """Cross-entropy with label distributions.

    Attributes:
        labels: Distributions of the training images in their order, shape `(N, K)`, or the path of an `.npy` file.
        fingerprint: Hash of the distributions.
    """

    labels: np.ndarray | str | PathLike = field(repr=False, compare=False)
    fingerprint: str = field(init=False)

    def __post_init__(self):
        is_path = isinstance(self.labels, str | PathLike)
        labels = np.load(self.labels, allow_pickle=False) if is_path else np.asarray(self.labels)
        labels = np.ascontiguousarray(labels, np.float32)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "fingerprint", hashlib.sha256(labels.tobytes()).hexdigest()[:12])
        super().__post_init__()

    def describe(self):
        return f"soft labels {self.fingerprint}"

    def check(self, trial, dataset):
        expected = (dataset.counts["train"], dataset.classes)
        if self.labels.shape != expected:
            raise ValueError(f"`labels` must be of shape {expected}. Received: shape {self.labels.shape}")

    def batches(self, training):
        return training.batches(labels=self.labels)

    def loss(self, training):
        return SmoothedCE(1.0, training.from_logits)
