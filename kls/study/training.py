"""What a method may ask for while one of its trials is trained."""

from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np

import kls
from decathlon.augmentation import Augmentation
from decathlon.batches import Batches
from decathlon.mixing import mixing_named
from kls.study.data import conformed
from kls.study.networks import (
    MONTE_CARLO_PASSES,
    TrainingError,
    begin_with_head,
    build_network,
    decay_weights,
    trained_network,
)
from kls.study.outputs import evaluation_batches
from kls.study.records import is_sealed, seal_file


@dataclass
class Training:
    """A trial that is about to be trained, with its data and the trials that it starts from.

    Attributes:
        trial: The `Trial`.
        dataset: Its opened dataset.
        store: The `RunStore`.
        own_models: `{name: OwnModel}` of the networks that are the user's own.
        parent_trials: The finished `Trial`s that it starts from.
        others: The opened datasets that its method reads, in the order of `method.datasets`.
        head: The finished `Trial` whose trained head its network begins with, or `None`.
        replicas: How many devices share a batch.
        from_logits: Whether the networks that `network` and `parents` have built return logits, not probabilities.
    """

    trial: object
    dataset: object
    store: object
    own_models: dict
    parent_trials: tuple = ()
    others: tuple = ()
    head: object = None
    replicas: int = 1
    from_logits: bool | None = None

    @cached_property
    def _rows(self):
        return self.trial.method.trained_on(self.trial, self.dataset.split("train")[1])

    @cached_property
    def _data(self):
        images, labels = self.dataset.split("train")
        return (images, labels) if self._rows is None else (images[self._rows], labels[self._rows])

    @property
    def images(self):
        """The training images."""
        return self._data[0]

    @property
    def labels(self):
        """Class indices of the training images."""
        return self._data[1]

    @property
    def held_out(self):
        """Images and labels of the training split that the method does not train on."""
        return tuple(values[~self._rows] for values in self.dataset.split("train"))

    def batches(self, labels=None, appended=None):
        """Returns training batches: shuffled, augmented and mixed by the trial's recipe.

        Args:
            labels: Distributions of the training images, shape `(N, K)`, in place of their class indices.
            appended: What follows the label of each image, as `decathlon.Batches` takes it.
        """
        trial, dataset, are_images = self.trial, self.dataset, self.images.dtype == np.uint8
        return Batches(
            self.images,
            self.labels if labels is None else labels,
            classes=dataset.classes,
            batch_size=trial.batch_size,
            training=True,
            augmentation=Augmentation(trial.shift, trial.flip, trial.fill) if are_images else None,
            seed=trial.seed,
            mixing=mixing_named(trial.method.mixing) if trial.method.mixing else None,
            appended=appended,
            blank=np.uint8(np.rint(255 * dataset.mean)) if are_images and trial.scaling == "mean" else None,
        )

    def evaluation_batches(self, images, labels):
        """Returns batches of samples in their order, as they are."""
        return evaluation_batches(self.trial, self.dataset, images, labels, self.replicas)

    def other_images(self):
        """Returns the training images of all other datasets, brought to the shape of this one's."""
        parts = [conformed(other.split("train")[0], self.dataset.image_shape) for other in self.others]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def network(self):
        """Returns a new network, which begins with the same weights whatever its teachers are."""
        keras.utils.set_random_seed(self.trial.seed)
        return self.initial_network()

    def initial_network(self):
        """Returns a new network as Keras's generators stand, with the trained head that it begins with."""
        own = self.own_models.get(self.trial.model)
        model, self.from_logits = build_network(self.trial, self.dataset, own, self.replicas > 1)
        if self.head is not None:
            begin_with_head(model, self.head, self.store, own)
        return model

    def parents(self):
        """Returns the trained networks of the trials that it starts from.

        Raises:
            TrainingError: If some of them and the network that `network` has built return logits, others probabilities.
        """
        found = [self._network_of(parent, self.own_models.get(parent.model)) for parent in self.parent_trials]
        kinds = {from_logits for _, from_logits in found}
        if len(kinds) > 1 or (self.from_logits is not None and kinds - {self.from_logits}):
            raise TrainingError("networks that learn from each other must all return logits, or all probabilities")
        self.from_logits = kinds.pop()
        return [network for network, _ in found]

    def _network_of(self, parent, own):
        return trained_network(parent, self.dataset, self.store, own, self.replicas > 1)

    def monte_carlo(self, model, rate):
        """Returns a network with a Monte Carlo dropout before its last layer, as `kls.monte_carlo` makes it."""
        return kls.monte_carlo(model, rate, MONTE_CARLO_PASSES)

    def decay_weights(self, layer):
        """Has the trial's weight decay hold for a layer of the loss too."""
        decay_weights(layer, self.trial.weight_decay)

    def parent_logits(self):
        """Returns what the parents make of the unvaried training images, computed once: shape `(N, T, K)`."""
        path = self.store.teacher_logits_path(self.parent_trials)
        if not is_sealed(path):
            kls.teacher_logits(self.parents(), self.evaluation_batches(self.images, self.labels), path)
            seal_file(path)
        return np.load(path, mmap_mode="r", allow_pickle=False)
