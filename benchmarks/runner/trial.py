"""A trial: one network trained once, named by its recipe."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property


@dataclass(frozen=True)
class Trial:
    """All that decides what a training run ends with; equal recipes have equal ids.

    Attributes:
        dataset: Name of the data set.
        image_size: Side in pixels, or `HxW`.
        data: Fingerprint of the prepared arrays, so that other images under the same name are another trial.
        model: Registered name of the model.
        loss: `smoothed_ce`, `outlier_exposure` (goes on from the parent's weights), `distillation` (the parents are
            the teachers), `overfitting_loss` or `overfitting_label` (weights, or labels, that follow the classes'
            overfitting-to-generalisation ratios; a tenth of the training images is held out for these), or `denoising`
            (`kls.FocalStd` of the class, and the mean squared error of the image cleaned of noise).
        gamma: Probability of the true class in the label.
        optimizer: `adam`; `momentum`: SGD with momentum 0.9; or `nesterov`: with Nesterov's.
        learning_rate: Its first learning rate.
        schedule: Pairs `(epoch, factor)`: from that epoch on, counted from 0, the rate is `learning_rate * factor`; or
            `cosine`: down to 1e-6 along half a cosine, step by step.
        epochs: Number of epochs.
        batch_size: Images per step, over all replicas.
        shift: Largest shift of the augmentation, as a share of the side.
        flip: Whether images are mirrored at random.
        fill: What lies outside a shifted image: `zero` or `reflect`.
        subtract_mean: Whether inputs are minus the mean of the training images.
        seed: Seed of initialisation, order, augmentation and dropout.
        precision: `float32` or `mixed_bfloat16`.
        backend: Keras's backend, since each draws other random numbers.
        parents: Ids of the trials that this one starts from.
        outliers: Names of the data sets whose training images are outliers, for `outlier_exposure`.
        outlier_data: Their fingerprints.
        outlier_batch_size: Outliers per step, on top of `batch_size`.
        outlier_weight: Weight of the outliers' term in the loss.
        teacher: What the parents are, for people, for `distillation`.
        teacher_weight: Weight of the teachers' term in the loss.
        temperature: Temperature of that term.
        distillation: Mode of `kls.Distiller`, if it is not `kd`.
        offline: Whether the teachers saw the images once, unvaried, before training.
        teacher_dropout: Rate of the Monte Carlo dropout of the teachers.
        dropout: Rate of the Monte Carlo dropout of the network itself.
        mixing: How training images are mixed, as `decathlon.mixing_named` takes it.
        weight_decay: That of all trainable weights, as in PyTorch's SGD, in place of the model's own penalty.
        window: Epochs over which overfitting is held against generalisation.
        soft_labels: Fingerprint of the label distributions of the training images.
        noise: Standard deviation of the Gaussian noise of `denoising`.
        noise_sides: Smallest and largest side in pixels of its random square.
        focal: `k` of `kls.FocalStd`.
        std_weight: That of `kls.FocalStd`.
        configuration: What the study calls it.
        statistics: Share of all training steps that batch normalisation's moving statistics average over at most;
            see `networks.follow_steps`.
    """

    dataset: str
    image_size: str
    data: str
    model: str
    gamma: float
    schedule: tuple[tuple[int, float], ...] | str
    epochs: int
    batch_size: int = 64
    loss: str = "smoothed_ce"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    shift: float = 0.1
    flip: bool = True
    fill: str = "zero"
    subtract_mean: bool = True
    seed: int = 0
    precision: str = "float32"
    backend: str = "tensorflow"
    parents: tuple[str, ...] = ()
    outliers: tuple[str, ...] | None = None
    outlier_data: tuple[str, ...] | None = None
    outlier_batch_size: int | None = None
    outlier_weight: float | None = None
    teacher: str | None = None
    teacher_weight: float | None = None
    temperature: float | None = None
    distillation: str | None = None
    offline: bool | None = None
    teacher_dropout: float | None = None
    dropout: float | None = None
    mixing: str | None = None
    weight_decay: float | None = None
    window: int | None = None
    soft_labels: str | None = None
    noise: float | None = None
    noise_sides: tuple[int, int] | None = None
    focal: float | None = None
    std_weight: float | None = None
    configuration: str | None = None
    statistics: float = 0.1

    def __post_init__(self):
        object.__setattr__(self, "gamma", float(self.gamma))
        object.__setattr__(self, "learning_rate", float(self.learning_rate))

    @cached_property
    def id(self):
        """The `recipe_id` of its recipe."""
        return recipe_id(asdict(self))

    @property
    def method(self):
        """What tells it from other trials of the same network and data, but for the seed."""
        if self.configuration:
            return f"{self.configuration} of {self.teacher}" if self.teacher else self.configuration
        if self.loss == "outlier_exposure":
            return f"exposed to {'+'.join(self.outliers)}"
        if self.loss == "distillation":
            return f"student of {self.teacher}"
        return f"gamma={self.gamma:g}"

    @property
    def label(self):
        """What a person calls it."""
        return f"{self.dataset} {self.model} {self.method} seed={self.seed}"

    def rate_factor(self, epoch):
        """Returns the factor of the learning rate in an epoch, counted from 0, of a schedule of pairs."""
        return next((factor for start, factor in reversed(self.schedule) if epoch >= start), 1.0)


def recipe_id(recipe):
    """Returns the hash of a recipe, 12 hexadecimal digits; what a trial has no use for is not in it.

    Args:
        recipe: The values of a `Trial` by name, also as they come back from JSON.
    """
    used = {name: value for name, value in recipe.items() if value is not None}
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:12]
