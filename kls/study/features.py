"""Features of a dataset: what a frozen backbone makes of its images, computed once and kept."""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from keras import ops

from kls.study.data import conformed
from kls.study.devices import precision_policy
from kls.study.networks import backbone_network
from kls.study.records import is_sealed, seal_file
from kls.study.trial import recipe_id
from kls.utils.compiled import compiled
from kls.utils.data import full_batches
from kls.utils.files import atomic_write

BATCH_SIZE = 64  # images that the backbone is given at once


class Backbone:
    """The frozen backbone of the networks of a study, built when it is first needed.

    Args:
        trial: A `Trial` of its heads.
        dataset: The opened dataset that they are trained on.
        own: The `OwnModel` of the network.
        store: The `RunStore`, which keeps the features.
    """

    def __init__(self, trial, dataset, own, store):
        self.trial = trial
        self.dataset = dataset
        self.own = own
        self.store = store

    @cached_property
    def _model(self):
        with precision_policy(self.trial.precision):
            return backbone_network(self.trial, self.dataset, self.own)

    @property
    def width(self):
        """Number of features."""
        return self._model.outputs[0].shape[-1]

    @cached_property
    def _features_of(self):
        return compiled(lambda images: (ops.cast(self._model(images, training=False), "float32"),), self._model)

    def path(self, source, split):
        """Returns where the features of a split of a dataset are kept."""
        trial = self.trial
        facts = {
            **{name: getattr(trial, name) for name in ("architecture", "scaling", "precision", "backend", "data")},
            "source": source.fingerprint,
            "split": split,
        }
        return self.store.features_path(recipe_id(facts))

    def compute(self, source, split):
        """Computes the features of a split of a dataset and keeps them."""
        images = conformed(source.split(split)[0], self.dataset.image_shape)
        parts = [self.of(batch)[:count] for batch, _, count in full_batches(images, BATCH_SIZE)]
        path = self.path(source, split)
        with atomic_write(path) as file:
            np.save(file, np.concatenate(parts))
        seal_file(path)
        _opened.cache_clear()

    def first_images(self, source, split):
        """Returns the first batch of images of a split of a dataset, as the backbone is given them."""
        return conformed(source.split(split)[0][:BATCH_SIZE], self.dataset.image_shape)

    def of(self, images):
        """Returns the features of a batch of images."""
        return ops.convert_to_numpy(self._features_of(ops.convert_to_tensor(images))[0])


@dataclass(frozen=True, eq=False)
class Features:
    """A dataset with the features of its images in their place. It has the attributes of a `decathlon.Dataset`.

    Attributes:
        source: The opened dataset of the images.
        backbone: The `Backbone`.
    """

    source: object
    backbone: Backbone

    are_images = False
    mean = None

    def __getattr__(self, name):
        if name in ("name", "classes", "class_names", "counts", "evaluation", "fingerprint", "check"):
            return getattr(self.source, name)
        raise AttributeError(name)

    @property
    def image_shape(self):
        """Shape of the features of an image."""
        path = self.path("train")
        return _opened(path).shape[1:] if path.is_file() else (self.backbone.width,)

    def split(self, name):
        """Returns `(features, labels)` of a split; the features are computed if they are not kept."""
        if not self.path(name).is_file():
            self.backbone.compute(self.source, name)
        return _opened(self.path(name)), self.source.split(name)[1]

    def path(self, name):
        """Returns where the features of a split are kept."""
        return self.backbone.path(self.source, name)

    def is_kept(self, name):
        """Whether the features of a split are kept, as they were computed."""
        return is_sealed(self.path(name))


@cache
def _opened(path):
    return np.load(path, mmap_mode="r", allow_pickle=False)
