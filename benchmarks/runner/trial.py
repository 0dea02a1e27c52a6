"""A trial: one network trained once, named by its recipe."""

import hashlib
import json
from dataclasses import asdict, dataclass

PRECISIONS = ("float32", "mixed_bfloat16")


@dataclass(frozen=True)
class Trial:
    """All that decides what a training run ends with; equal recipes have equal ids.

    Attributes:
        dataset: Name of the data set.
        image_size: Side in pixels, or `HxW`.
        data: Fingerprint of the prepared arrays, so that other images under the same name are another trial.
        model: Registered name of the model.
        loss: Name of the loss; `smoothed_ce` takes `gamma`.
        gamma: Probability of the true class in the label.
        optimizer: Name of the optimiser.
        learning_rate: Its first learning rate.
        schedule: Pairs `(epoch, factor)`: from that epoch on, counted from 0, the rate is `learning_rate * factor`.
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
    """

    dataset: str
    image_size: str
    data: str
    model: str
    gamma: float
    schedule: tuple[tuple[int, float], ...]
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

    def __post_init__(self):
        object.__setattr__(self, "gamma", float(self.gamma))
        object.__setattr__(self, "learning_rate", float(self.learning_rate))

    @property
    def id(self):
        """Hash of the recipe, 12 hexadecimal digits."""
        recipe = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(recipe.encode()).hexdigest()[:12]

    @property
    def label(self):
        """What a person calls it."""
        return f"{self.dataset} {self.model} gamma={self.gamma:g} seed={self.seed}"

    def rate_factor(self, epoch):
        """Returns the factor of the learning rate in an epoch, counted from 0."""
        return next((factor for start, factor in reversed(self.schedule) if epoch >= start), 1.0)
