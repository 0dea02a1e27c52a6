"""Outlier exposure: fine-tuning with images of other datasets, whose labels are uniform."""

from dataclasses import dataclass, field, replace

from decathlon.wrappers import WithOutliers
from kls.losses import OutlierExposure as OutlierExposureLoss
from kls.study.methods.base import Method
from kls.study.methods.cross_entropy import CrossEntropy
from kls.study.methods.registry import register
from kls.targets import check_gamma
from kls.utils.arrays import check_number, check_whole


@register("outlier_exposure")
@dataclass(frozen=True)
class OutlierExposure(Method):
    """Fine-tunes a trained network with `kls.OutlierExposure` (Hendrycks et al. 2019).

    Attributes:
        outliers: Names of prepared datasets whose training images are outliers; as a text, with `+` between.
        weight: Weight of the outliers' term in the loss.
        outlier_batch_size: Outliers per step, on top of the batch size.
        gamma: Probability of the true class in the labels of ID images.
        start: The method whose network is tuned.
    """

    outliers: tuple[str, ...]
    weight: float = 0.5
    outlier_batch_size: int = 256
    gamma: float = 1.0
    start: Method = field(default_factory=CrossEntropy)

    starts_anew = False

    def __post_init__(self):
        names = self.outliers.split("+") if isinstance(self.outliers, str) else self.outliers
        object.__setattr__(self, "outliers", tuple(dict.fromkeys(names)))
        if not self.outliers:
            raise ValueError("`outliers` must name one dataset at least. Received: none")
        check_whole(self.outlier_batch_size, "outlier_batch_size", 1)
        check_number(self.weight, "weight", "[0, inf)")
        if self.mixing:
            raise ValueError(f"`mixing` must be None: outliers stand beside class indices. Received: {self.mixing!r}")
        super().__post_init__()

    def describe(self):
        return f"exposed to {'+'.join(self.outliers)}"

    def check(self, trial, dataset):
        check_gamma(self.gamma, dataset.classes)

    def parents(self, trial):
        return [replace(trial, method=self.start)]

    @property
    def datasets(self):
        return self.outliers

    def cost(self, trial):
        return 1 + self.outlier_batch_size / trial.batch_size

    def batches(self, training):
        return WithOutliers(training.batches(), training.other_images(), self.outlier_batch_size)

    def model(self, training):
        (model,) = training.parents()
        return model

    def loss(self, training):
        return OutlierExposureLoss(self.gamma, self.weight, training.from_logits)
