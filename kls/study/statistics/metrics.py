"""The metrics that methods are compared by: of what, which way is better, and what is too little to matter."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kls.calibration.samples import as_indices, as_matrix, per_sample, softmax
from kls.ood.metrics import as_scores
from kls.study.statistics.networks import Areas, Binned, Means, Rates, RiskCoverage
from kls.utils.arrays import as_numbers, check_choice, shown


@dataclass(frozen=True, eq=False)
class Predictions:
    """What n networks of one method, a seed each, say of the same images.

    Attributes:
        labels: Class indices of shape `(N,)`.
        logits: Logits of shape `(n, N, K)`.
    """

    labels: np.ndarray
    logits: np.ndarray

    def __post_init__(self):
        logits = as_numbers(self.logits, "logits")
        if logits.ndim != 3 or 0 in logits.shape:
            raise ValueError(f"`logits` must be of shape (seeds, images, classes). Received: shape {logits.shape}")
        if logits.shape[1] < 2:
            raise ValueError(f"`logits` must be those of at least 2 images. Received: shape {logits.shape}")
        logits = as_matrix(logits.reshape(-1, logits.shape[2]), "logits").reshape(logits.shape)
        largest = logits.max(axis=2)
        if not np.isfinite(largest).all():
            seed, image = np.argwhere(~np.isfinite(largest))[0]
            raise ValueError(
                "`logits` must be numbers below infinity, one of each image at least finite. "
                f"Received: {largest[seed, image]} of seed {seed}, image {image}"
            )
        object.__setattr__(self, "logits", logits)
        object.__setattr__(self, "labels", as_indices(self.labels, *logits.shape[1:]))

    @property
    def n(self):
        """Number of seeds."""
        return len(self.logits)

    @property
    def size(self):
        """Number of images."""
        return self.logits.shape[1]

    def mismatch(self, baseline):
        """Returns in what it cannot be paired with the baseline, `None` if it can."""
        if self.logits.shape != baseline.logits.shape:
            return f"logits of shape {baseline.logits.shape} (seeds, images, classes)", f"shape {self.logits.shape}"
        other = np.flatnonzero(self.labels != baseline.labels)
        return ("labels, of the same images", f"another label of image {other[0]}") if len(other) else None


@dataclass(frozen=True, eq=False)
class Scores:
    """What n networks of one method, a seed each, score ID and OOD images; larger is more in-distribution.

    Attributes:
        id_scores: Scores of the ID images, shape `(n, N)`.
        ood_scores: `{name of an OOD dataset: scores of shape (n, M)}`, a group; metrics are means over it.
    """

    id_scores: np.ndarray
    ood_scores: dict

    def __post_init__(self):
        if not isinstance(self.ood_scores, dict) or not self.ood_scores:
            raise ValueError(
                f"`ood_scores` must be a dictionary of scores by dataset. Received: {shown(self.ood_scores)}"
            )
        object.__setattr__(self, "id_scores", _rows(self.id_scores, "id_scores"))
        found = {name: _rows(scores, f"ood_scores[{name!r}]") for name, scores in self.ood_scores.items()}
        object.__setattr__(self, "ood_scores", found)
        for name, scores in found.items():
            if len(scores) != self.n:
                raise ValueError(f"`ood_scores[{name!r}]` must be those of {self.n} seeds. Received: {len(scores)}")

    @property
    def n(self):
        """Number of seeds."""
        return len(self.id_scores)

    @property
    def size(self):
        """Number of images of the smallest set."""
        return min(scores.shape[1] for scores in (self.id_scores, *self.ood_scores.values()))

    def mismatch(self, baseline):
        """Returns in what it cannot be paired with the baseline, `None` if it can."""
        mine, wanted = (
            {"ID": one.id_scores.shape, **{name: scores.shape for name, scores in one.ood_scores.items()}}
            for one in (self, baseline)
        )
        return None if mine == wanted else (f"scores of shapes {wanted} (seeds, images)", f"shapes {mine}")


@dataclass(frozen=True)
class Metric:
    """A metric that methods are compared by.

    Attributes:
        heading: What people call it.
        larger_is_better: Which way is better.
        margin: A difference that is too little to matter, as a fraction or in nats.
        unit: The unit of differences.
        takes: `Predictions` or `Scores`.
        sampled: Function of a list of these, a method each, to the `Sampled` metric of all their networks.
        unseen: How many images on which one method alone is right to add to those seen. Without, methods that agree on
            200 images would be taken to agree on all; one for either side is what Bonett & Price (2012) add.
    """

    heading: str
    larger_is_better: bool
    margin: float
    unit: str
    takes: type
    sampled: Callable
    unseen: int = 0

    @property
    def scale(self):
        """By what a value is multiplied to be shown: 100 where the unit is points of a percentage."""
        return 100 if self.unit == "points" else 1

    def shown(self, value, sign=""):
        """Returns a value as people read it; with `sign="+"` a difference."""
        return f"{self.scale * value:{sign}z.{2 if self.unit == 'points' else 4}f}"


def metric_of(name):
    """Returns the `Metric` of a name."""
    return METRICS[check_choice(name, "metric", METRICS)]


def _rows(scores, name):
    scores = as_numbers(scores, name)
    if scores.ndim != 2 or len(scores) == 0:
        raise ValueError(f"`{name}` must be of shape (seeds, images). Received: shape {scores.shape}")
    return np.stack([as_scores(network, name, least=2) for network in scores])


def _samples(methods):
    return [per_sample(one.labels, logits, from_logits=True) for one in methods for logits in one.logits]


def _losses(name):
    return lambda methods: Means(np.stack([getattr(one, name) for one in _samples(methods)]).astype(np.float64))


def _confidences(methods):
    samples = _samples(methods)
    return Binned([one.confidence[:, None] for one in samples], [one.correct[:, None] for one in samples])


def _class_probabilities(methods):
    hot = methods[0].labels[:, None] == np.arange(methods[0].logits.shape[2])
    logits = [network for one in methods for network in one.logits]
    return Binned([softmax(network).astype(network.dtype) for network in logits], [hot] * len(logits))


def _risk_coverage(methods):
    samples = _samples(methods)
    return RiskCoverage(np.stack([one.confidence for one in samples]), np.stack([~one.correct for one in samples]))


def _scores(kind):
    def sampled(methods):
        sets = [np.concatenate([one.ood_scores[name] for one in methods]) for name in methods[0].ood_scores]
        return kind(np.concatenate([one.id_scores for one in methods]), sets)

    return sampled


METRICS = {
    "accuracy": Metric("accuracy", True, 0.0025, "points", Predictions, _losses("correct"), unseen=2),
    "nll": Metric("NLL", False, 0.01, "nats", Predictions, _losses("nll")),
    "brier": Metric("Brier score", False, 0.005, "", Predictions, _losses("brier")),
    "ece": Metric("ECE", False, 0.005, "points", Predictions, _confidences),
    "classwise": Metric("classwise ECE", False, 0.001, "points", Predictions, _class_probabilities),
    "aurc": Metric("AURC", False, 0.0025, "points", Predictions, _risk_coverage),
    "auroc": Metric("AUROC", True, 0.01, "points", Scores, _scores(Areas)),
    "fpr95": Metric("FPR at 95 % TPR", False, 0.02, "points", Scores, _scores(Rates)),
}
