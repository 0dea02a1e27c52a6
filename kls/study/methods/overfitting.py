"""Losses that follow the classes' overfitting-to-generalisation ratios."""

from dataclasses import dataclass

from kls.analysis.overfitting import OverfittingCE, OverfittingWeights
from kls.study.methods.base import Method
from kls.study.methods.registry import register
from kls.utils.arrays import check_choice, check_whole
from kls.utils.stratified import drawn_of_each_class

HELD_OUT = 10  # one training image in so many


@register("overfitting")
@dataclass(frozen=True)
class OverfittingRatio(Method):
    """`kls.analysis.overfitting.OverfittingCE`. A tenth of the training images is held out for the ratios.

    Attributes:
        mode: What the ratios weigh: the `loss` of a class, or its share of the `label`.
        window: Epochs over which overfitting is held against generalisation.
    """

    mode: str = "loss"
    window: int = 10

    def __post_init__(self):
        check_choice(self.mode, "mode", ("loss", "label"))
        check_whole(self.window, "window", 1)
        super().__post_init__()

    def trained_on(self, trial, labels):
        """All but a tenth of each class, one image at least."""
        return ~drawn_of_each_class(labels, lambda count: count // HELD_OUT, trial.seed)

    def loss(self, training):
        return OverfittingCE(training.dataset.classes, self.mode, from_logits=training.from_logits)

    def metrics(self, loss, accuracy):
        return [accuracy, loss.class_weights]

    def callbacks(self, training, model):
        train = training.evaluation_batches(training.images, training.labels)
        validation = training.evaluation_batches(*training.held_out)
        return [OverfittingWeights(model.loss, train, validation, self.window, every=self.window)]
