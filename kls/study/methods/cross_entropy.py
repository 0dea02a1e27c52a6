"""Cross-entropy, with smoothed labels or without."""

from dataclasses import dataclass, replace

from keras import ops

from kls.losses import SmoothedCE
from kls.study.methods.base import Method
from kls.study.methods.registry import register
from kls.targets import check_gamma, smoothing_weights
from kls.utils.arrays import check_number
from kls.utils.loss_variable import LossVariable


@register("label_smoothing")
@dataclass(frozen=True)
class LabelSmoothing(Method):
    """`kls.SmoothedCE`: `gamma` on the true class, the rest shared by the others (Mezzini 2018, equation 7).

    Attributes:
        gamma: Probability of the true class, in (1/K, 1].
    """

    gamma: float = 0.9

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "gamma", float(check_number(self.gamma, "gamma", "(0, 1]")))

    def describe(self):
        return f"gamma={self.gamma:g}" + (f" {self.mixing}" if self.mixing else "")

    def check(self, trial, dataset):
        check_gamma(self.gamma, dataset.classes)

    def loss(self, training):
        return AssignableSmoothedCE(self.gamma, training.dataset.classes, training.from_logits)

    def metrics(self, loss, accuracy):
        return [accuracy, loss.label]

    def compiled(self):
        return replace(self, gamma=1.0, title=None) if type(self) is LabelSmoothing else None

    def begin(self, loss):
        loss.assign_gamma(self.gamma)


def CrossEntropy(**common):
    """Returns `LabelSmoothing` with `gamma=1`, which is cross-entropy with hard labels.

    Args:
        **common: The fields that every method has.
    """
    return LabelSmoothing(1.0, **common)


class AssignableSmoothedCE(SmoothedCE):
    """`kls.SmoothedCE` whose gamma can be changed after the training step is compiled.

    Args:
        gamma: Float in (1/K, 1], as in `kls.SmoothedCE`.
        classes: Integer K >= 2.
        from_logits: Whether `y_pred` are logits.

    Attributes:
        label: The `LossVariable` with `(a, b)` of the label `a * one_hot + b`, to be compiled among the metrics.

    Example:

    >>> loss = AssignableSmoothedCE(gamma=1.0, classes=2)
    >>> loss.assign_gamma(0.75)
    >>> float(loss.label.result())
    0.75
    """

    def __init__(self, gamma, classes, from_logits=True):
        super().__init__(gamma, from_logits)
        self.classes = classes
        self.label = Gamma(smoothing_weights(gamma, classes), "gamma", "float32")

    def assign_gamma(self, gamma):
        """Makes `gamma` the probability of the true class from the next step on."""
        self.label.weights.assign(smoothing_weights(gamma, self.classes))
        self.gamma = float(gamma)

    def label_weights(self, classes):
        return self.label.weights[0], self.label.weights[1]


class Gamma(LossVariable):
    """The weights `(a, b)` of a smoothed label, logged as `a + b`, the probability of the true class."""

    def result(self):
        return ops.sum(self.weights)
