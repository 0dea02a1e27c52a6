"""A trial: one network trained once, named by its recipe."""

import hashlib
import json
from dataclasses import dataclass, fields
from functools import cached_property, partial

import keras

import decathlon
from decathlon.augmentation import FILLS
from kls.study.methods.base import Method, check_schedule
from kls.study.precision import PRECISIONS, resolve_precision
from kls.utils.arrays import check_bool, check_choice, check_number, check_whole, shown

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "momentum": partial(keras.optimizers.SGD, momentum=0.9),
    "nesterov": partial(keras.optimizers.SGD, momentum=0.9, nesterov=True),
}
NORMALISATIONS = ("mean", "scale", "none")
HEAD, ALL = "head", "all"


def check_fine_tune(value, name="fine_tune"):
    """Raises `ValueError` unless this says what to train of a network with pretrained weights."""
    if value not in (HEAD, ALL) and not (type(value) is int and value > 0):
        raise ValueError(
            f"`{name}` must be 'head', 'all' or the number of topmost layers to train. Received: {name}={shown(value)}"
        )


CHECKS = {
    "epochs": partial(check_whole, least=1),
    "batch_size": partial(check_whole, least=1),
    "seed": partial(check_whole, least=0),
    "schedule": check_schedule,
    "optimizer": partial(check_choice, choices=OPTIMIZERS),
    "learning_rate": partial(check_number, allowed="(0, inf)"),
    "weight_decay": partial(check_number, allowed="[0, inf)"),
    "shift": partial(check_number, allowed="[0, 0.5)"),
    "flip": check_bool,
    "fill": partial(check_choice, choices=FILLS),
    "normalisation": partial(check_choice, choices=NORMALISATIONS),
    "precision": partial(check_choice, choices=PRECISIONS),
    "fine_tune": check_fine_tune,
}


@dataclass(frozen=True)
class Trial:
    """What all trainings share, and the method. Equal recipes have equal ids.

    Attributes:
        dataset: Name of the dataset.
        image_size: Side in pixels, or `HxW`.
        data: Fingerprint of the arrays, so that other images under the same name are another trial.
        model: Name of the network.
        method: The `Method`: its labels, its loss, its batches and what it starts from.
        epochs: Number of epochs.
        schedule: Pairs `(epoch, factor)`: from that epoch on, counted from 0, the rate is `learning_rate * factor`; or
            `cosine`: down to 1e-6 along half a cosine, step by step.
        architecture: Hash of what a network of the user's own is; `None` for a registered one.
        batch_size: Images per step, over all replicas.
        optimizer: `adam`; `momentum`: SGD with momentum 0.9; or `nesterov`: with Nesterov's.
        learning_rate: Its first learning rate.
        weight_decay: That of all trainable weights, as in PyTorch's SGD, in place of the model's own penalty.
        compile: What a compile function of the user's own is: its name and the hash of its code.
        shift: Largest shift of the augmentation, as a share of the side.
        flip: Whether images are mirrored at random.
        fill: What lies outside a shifted image: `zero`, which is the mean image, or `reflect`.
        normalisation: What networks do with pixels first: `mean` (scale them to [0, 1] and subtract the mean training
            image), `scale`, or `none`.
        own_preprocessing: Whether the network has layers of its own for that, and takes pixels as they are.
        statistics: Share of all training steps that batch normalisation's moving statistics average over at most;
            see `networks.follow_steps`.
        seed: Seed of initialisation, order, augmentation and dropout.
        precision: `float32` or `mixed_bfloat16`.
        backend: Keras's backend, since each draws other random numbers.
        parents: Ids of the trials that this one starts from.
        fine_tune: What is trained of a network whose backbone has pretrained weights: `"head"`, its last layer alone,
            on the features of images as they are; `"all"` or the number of its topmost layers, from a trained head on.
            `None` if the network is trained whole, from its initial weights.
        head: Id of the trial whose trained head it starts with.
        others: Pairs of name and fingerprint of the further datasets that the method reads.
    """

    dataset: str
    image_size: str
    data: str
    model: str
    method: Method
    epochs: int
    schedule: tuple[tuple[int, float], ...] | str = ()
    architecture: str | None = None
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float | None = None
    compile: str | None = None
    shift: float = 0.1
    flip: bool = True
    fill: str = "zero"
    normalisation: str = "mean"
    own_preprocessing: bool = False
    statistics: float = 0.1
    seed: int = 0
    precision: str = "float32"
    backend: str = "tensorflow"
    parents: tuple[str, ...] = ()
    fine_tune: str | int | None = None
    head: str | None = None
    others: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        for name, check in CHECKS.items():
            value = getattr(self, name)
            if value is not None:
                checked = check(value, name)
                object.__setattr__(self, name, value if checked is None else checked)

    @property
    def of_features(self):
        """Whether it trains a head on the features of a frozen backbone."""
        return self.fine_tune == HEAD

    @property
    def starts_anew(self):
        """Whether nothing of its network is trained when it begins."""
        return self.method.starts_anew and self.fine_tune is None

    @property
    def starts_from(self):
        """Ids of all trials that have to be finished before it begins: a tuple."""
        return self.parents if self.head is None else (*self.parents, self.head)

    @property
    def scaling(self):
        """What stands before its network: as `normalisation`."""
        return "none" if self.own_preprocessing else self.normalisation

    @cached_property
    def recipe(self):
        """All that decides what the training ends with, by name: values that JSON knows."""
        left_out = ("method", *(("optimizer", "learning_rate", "schedule") if self.compile else ()))
        shared = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}
        return {**shared, "method": self.method.recipe}

    @cached_property
    def id(self):
        """The `recipe_id` of its recipe."""
        return recipe_id(self.recipe)

    @property
    def label(self):
        """What a person calls it."""
        model = f"head of {self.model}" if self.of_features else self.model
        return f"{self.dataset} {model} {self.method.label} seed={self.seed}"

    def rate_factor(self, epoch):
        """Returns the factor of the learning rate in an epoch, counted from 0, of a schedule of pairs."""
        return next((factor for start, factor in reversed(self.schedule) if epoch >= start), 1.0)


def trial_of(dataset, *, shift=0.1, flip=None, normalisation=None, precision="float32", **recipe):
    """Returns a trial of an opened dataset.

    Args:
        dataset: A `decathlon.Dataset`, or what has its attributes. Features are neither scaled nor augmented.
        shift: As in `Trial`.
        flip: As in `Trial`; by default as the dataset's entry in the catalogue says.
        normalisation: As in `Trial`; by default as the entry says.
        precision: `float32`, `mixed_bfloat16` or `auto`.
        **recipe: The other fields of the trial.
    """
    entry = decathlon.CATALOG.get(dataset.name)
    usual = "mean" if entry is None or entry.subtract_mean else "scale"
    if flip is None:
        flip = entry is None or entry.flip
    if not getattr(dataset, "are_images", True):
        shift, flip, usual = 0.0, False, "none"
    return Trial(
        dataset=dataset.name,
        image_size=dataset.size,
        data=dataset.fingerprint,
        shift=shift,
        flip=flip,
        normalisation=normalisation or usual,
        precision=resolve_precision(precision),
        backend=keras.backend.backend(),
        **recipe,
    )


def recipe_id(recipe):
    """Returns the hash of a recipe, 12 hexadecimal digits; what a trial has no use for, and titles, are not in it.

    Args:
        recipe: `Trial.recipe`, also as it comes back from JSON.
    """
    return hashlib.sha256(json.dumps(_used(recipe), sort_keys=True).encode()).hexdigest()[:12]


def _used(recipe):
    values = {name: _used(value) if isinstance(value, dict) else value for name, value in recipe.items()}
    return {name: value for name, value in values.items() if value not in (None, [], ()) and name != "title"}
