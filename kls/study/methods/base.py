"""What a method is: the questions that the engine asks it, with the answers that most methods give."""

from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from decathlon.mixing import mixing_named
from kls.utils.arrays import check_number, check_whole, shown


def check_schedule(schedule, name="schedule"):
    """Raises `ValueError` unless a schedule is `cosine`, or pairs of ascending epochs and positive factors."""
    if schedule == "cosine":
        return
    pairs = isinstance(schedule, tuple) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in schedule)
    if not pairs or any(type(epoch) is not int or factor <= 0 for epoch, factor in schedule):
        raise ValueError(
            f"`{name}` must be 'cosine', or pairs of an epoch and a factor above 0. Received: {name}={shown(schedule)}"
        )
    epochs = [epoch for epoch, _ in schedule]
    if epochs != sorted(epochs):
        raise ValueError(f"`{name}` must have its epochs in ascending order. Received: {name}={shown(schedule)}")


OF_THE_TRIAL = ("epochs", "learning_rate", "schedule")
CHECKS = {
    "dropout": partial(check_number, allowed="[0, 1)"),
    "epochs": partial(check_whole, least=1),
    "learning_rate": partial(check_number, allowed="(0, inf)"),
    "schedule": check_schedule,
}


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to train a classifier: its labels, its loss, its batches and what it starts from.

    A method is a frozen dataclass. Its fields are its parameters, and part of the recipe by which a trial is named.
    The fields below are those of every method; what is `None` is as the study has it.

    Attributes:
        mixing: How training images are mixed, as `decathlon.mixing_named` takes it: `"cutmix"`, `"mixup"`, ...
        dropout: Rate of a Monte Carlo dropout before the network's last layer, as `kls.monte_carlo` has it.
        epochs: Number of epochs.
        learning_rate: First learning rate.
        schedule: Schedule of the learning rate, as in `Trial`.
        title: What people call it, in place of `describe()`.
    """

    mixing: str | None = None
    dropout: float | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    schedule: tuple | str | None = None
    title: str | None = None

    name = ""
    code = None
    gamma = 1.0
    accuracy = "accuracy"  # what Keras's logs call its accuracy
    starts_anew = True  # whether its network is not trained when it begins
    whole = False  # whether a network of several outputs is trained with all of them, not as a classifier alone
    needs_features = False  # whether it needs the inputs of the network's last layer
    one_replica = False  # whether it cannot be trained on several devices at once
    offline = False  # whether it asks for `training.parent_logits`, which trials of the same parents share

    def __post_init__(self):
        for field in fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name, None), field.type))
        if self.mixing is not None:
            object.__setattr__(self, "mixing", str(mixing_named(self.mixing)))
        for name, check in CHECKS.items():
            if getattr(self, name) is not None:
                check(getattr(self, name), name)

    @property
    def recipe(self):
        """Its name and parameters, those that are not `None`: values that JSON knows.

        What it changes of the study's schedule is in the trial, and its `title` in no id.
        """
        names = [field.name for field in fields(self) if field.compare and field.name not in OF_THE_TRIAL]
        found = {"name": self.name, "code": self.code, **{name: getattr(self, name) for name in names}}
        return {
            name: value.recipe if isinstance(value, Method) else value
            for name, value in found.items()
            if value is not None
        }

    @property
    def label(self):
        """What people call it."""
        return self.title or self.describe()

    def describe(self):
        """Returns its name for people: what tells it from other methods of a study."""
        shown = [f"{name}={value}" for name, value in self.recipe.items() if name not in ("name", "code")]
        return " ".join([self.name, *shown])

    @property
    def inner(self):
        """The methods among its parameters: those that it starts from."""
        return [value for value in vars(self).values() if isinstance(value, Method)]

    def parents(self, trial):
        """Returns the trials that a trial of this method starts from: copies of it with another method, say.

        The study trains them first. Their weights are there when the method is asked for its `model`.

        Args:
            trial: A `Trial` of this method, as the study describes it.
        """
        return []

    @property
    def datasets(self):
        """Names of further prepared datasets that it reads, as `training.others`."""
        return ()

    def check(self, trial, dataset):
        """Raises `ValueError` if it cannot be trained so.

        Args:
            trial: The `Trial`.
            dataset: The opened `decathlon.Dataset`.
        """

    def trained_on(self, trial, labels):
        """Returns a mask of the training images that it trains on, or `None` for all.

        Args:
            trial: The `Trial`.
            labels: Class indices of all training images.
        """
        return None

    def batches(self, training):
        """Returns its training batches.

        Args:
            training: The `Training`; `training.batches()` are those of plain images and labels.
        """
        return training.batches()

    def cost(self, trial):
        """Returns the cost of an epoch, as a multiple of plain training's, for the time left."""
        return 1.0

    def validation(self, batches):
        """Returns the batches that `fit` validates on, made of those of plain images and labels."""
        return batches

    def model(self, training):
        """Returns the model to compile: a new network, unless the method goes on from its parents'."""
        return training.network()

    def loss(self, training):
        """Returns the loss to compile with: a Keras loss of a network that returns logits.

        Args:
            training: The `Training`; where `training.from_logits` is `False` the network returns probabilities.
        """
        raise NotImplementedError(f"{type(self).__name__} must have `loss(self, training)`")

    def metrics(self, loss, accuracy):
        """Returns the metrics to compile with: the accuracy, and what else is to be logged."""
        return [accuracy]

    def callbacks(self, training, model):
        """Returns callbacks whose state decides what the training ends with; they are kept with each checkpoint."""
        return []

    def network(self, model):
        """Returns the network to evaluate and to keep, of the model that was trained."""
        return model

    def compiled(self):
        """Returns the method with fixed values of the parameters that are not compiled into the training step.

        Trials whose methods have equal answers share one compiled model: compiling takes longer than many an epoch.
        `None`, if each trial is to be compiled anew. Only for methods whose `model` is a new network.
        """
        return None

    def begin(self, loss):
        """Makes a compiled loss, which another method of the same `compiled()` has trained with, this one's."""


def _plain(value, kind):
    """Returns a parameter as JSON and hashes know it: plain numbers, floats where they are meant, and tuples."""
    value = value.item() if isinstance(value, np.generic) else value
    if kind in (float, float | None) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return tuple(map(_tuple, value)) if isinstance(value, list | tuple) else value


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value
