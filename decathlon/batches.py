"""Seeded batches of pixels for any Keras backend, in NumPy."""

import math

import keras
import numpy as np

from decathlon.arguments import as_blank, check_array, check_bool, check_kind, check_pixels, check_whole
from decathlon.augmentation import Augmentation, augment
from decathlon.display import Shown
from decathlon.mixing import Mixing

__all__ = ["Batches"]

# Streams of random numbers that never meet.
ORDER, AUGMENTATION, OUTLIER_ORDER, OUTLIER_OFFSET, OUTLIER_AUGMENTATION, MIXING, NOISE = range(7)


class SeededBatches(Shown, keras.utils.PyDataset):
    """What all batches share: those of the `epoch` come by their index, and the next epoch follows on it."""

    def __len__(self):
        return self.num_batches

    def __getitem__(self, index):
        return self.batch(self.epoch, index)

    def on_epoch_end(self):
        self.epoch += 1


class Batches(SeededBatches):
    """Batches of images as they are stored, with pixels in 0..255, or of features, and labels.

    Images are uint8 where the array is and where no mixing blends them, else float32. Scaling, and subtracting a mean,
    are up to the network: see `kls.layers.Pixels`. What a batch holds depends on `(seed, epoch, index)` and nothing
    else, so a resumed run sees what an uninterrupted one would.

    Labels of a batch are int64 class indices of shape `(B,)`. They are float32 distributions of shape `(B, K)` if the
    labels given are, and in training with a mixing; with `appended` they are `[distribution | row]`, of shape
    `(B, K + D)`.

    Args:
        images: Array of images of shape `(N, H, W, C)`: uint8, or floats in [0, 255]. Or float features of any other
            shape `(N, ...)` and any finite values. Memory-mapped ones are read row by row.
        labels: Integer array of shape `(N,)`, each in 0..K-1, or float array of shape `(N, K)` whose rows are
            distributions over the classes.
        classes: K.
        batch_size: Images per batch.
        training: Whether to shuffle, to augment and to drop the last, partial batch.
        augmentation: An `Augmentation`, or `None`; applied in training only. For images alone.
        seed: Integer from which order, augmentation and mixing are drawn.
        epoch: The epoch to begin with.
        mixing: A `Mixing`, or `None`; applied in training only, after the augmentation or, a `KerasLayer`, before it.
            For images alone.
        appended: Float array of shape `(N, ...)` or `None`: what follows the label of each image, flattened to a row
            of length D, such as the stored logits of teachers. Memory-mapped ones are read row by row. It belongs to
            unmixed images, so it does not go with `mixing`.
        blank: Array of shape `(H, W, C)`, uint8 or floats in [0, 255]: what lies outside of shifted images with
            `Augmentation(fill="zero")`, and inside the holes of `CutOut`; `None` is black. With the mean image in its
            place a network that subtracts the mean sees zeros there: of uint8 images to within 0.002, half a level,
            since the blank image is rounded as they are.

    Raises:
        ValueError: If images are of another type or, by up to 1,000 of them, on another scale, if features are not
            finite or come with what is for images alone, if labels are neither integers in 0..K-1 in one row nor
            distributions over K classes, if images, labels and `appended` differ in number, if `appended` is given with
            a mixing, if a training set does not fill one batch, or if another argument is of another type or out of
            range.

    Example:

    >>> images, labels = decathlon.open("digits").split("train")
    >>> batches = decathlon.Batches(images, labels, classes=10, batch_size=64, training=True)
    >>> len(batches), batches[0][0].shape, batches[0][0].dtype
    (22, (64, 8, 8, 1), dtype('uint8'))
    >>> mixing = decathlon.CutMix()
    >>> mixed = decathlon.Batches(images, labels, classes=10, batch_size=64, training=True, mixing=mixing)
    >>> mixed[0][1].shape
    (64, 10)
    """

    def __init__(
        self,
        images,
        labels,
        classes,
        batch_size,
        training=False,
        augmentation=None,
        seed=0,
        epoch=0,
        mixing=None,
        appended=None,
        blank=None,
    ):
        super().__init__()
        check_whole(classes, "classes", 1)
        training = check_bool(training, "training")
        check_kind(augmentation, "augmentation", Augmentation | None, "an `Augmentation` or None")
        check_kind(mixing, "mixing", Mixing | None, "a `Mixing` or None")
        check_whole(seed, "seed", 0)
        check_whole(epoch, "epoch", 0)
        _check_labels(images, labels, classes)
        check_whole(batch_size, "batch_size", 1, len(images) if training else math.inf)
        check_pixels(images, "images")
        if images.ndim != 4:
            _check_features(images, augmentation=augmentation, mixing=mixing, blank=blank)
        if blank is not None:
            as_blank(blank, images)
            check_pixels(blank[None], "blank")
        if appended is not None:
            _check_appended(images, appended, mixing)
        self.images = images
        self.labels = labels
        self.classes = classes
        self.batch_size = batch_size
        self.training = training
        self.augmentation = augmentation if training else None
        self.seed = seed
        self.epoch = epoch
        self.mixing = mixing if training else None
        self.appended = appended
        self.blank = blank
        self._order = (None, None)

    @property
    def num_batches(self):
        count = len(self.images)
        return count // self.batch_size if self.training else -(-count // self.batch_size)

    @property
    def has_class_indices(self):
        """Whether the labels of a batch are class indices, not distributions."""
        return self.labels.ndim == 1 and self.mixing is None and self.appended is None

    def batch(self, epoch, index):
        """Returns `(images, labels)` of batch `index` of an epoch."""
        rows = self._rows(epoch, index)
        labels = self._labels(rows)
        rng, mixing_rng = self.rng(AUGMENTATION, epoch, index), self.rng(MIXING, epoch, index)
        if self.mixing is None:
            return self.varied(self.images[rows], rng), labels
        if self.mixing.comes_first:
            images, labels = self.mixing(_own(self.images[rows]), labels, mixing_rng, self.blank)
            return self.varied(images, rng), labels
        return self.mixing(self.varied(self.images[rows], rng), labels, mixing_rng, self.blank)

    def rng(self, stream, *place):
        """Returns the generator of a stream's random numbers for an epoch, or for a batch of it."""
        return np.random.default_rng([stream, self.seed, *place])

    def varied(self, images, rng):
        """Returns images as these batches give them: uint8 or float32, in training augmented with what `rng` draws."""
        if self.augmentation is None:
            return _own(images)
        return augment(_own(images, copy=None), self.augmentation, rng, self.blank)

    def _facts(self):
        return {
            "batches": self.num_batches,
            "batch_size": self.batch_size,
            "images": self.images.shape,
            "classes": self.classes,
            "training": self.training,
            "augmentation": self.augmentation,
            "mixing": self.mixing and str(self.mixing),
            "seed": self.seed,
            "epoch": self.epoch,
        }

    def _labels(self, rows):
        labels = self.labels[rows]
        if self.has_class_indices:
            return np.array(labels, np.int64)
        if labels.ndim == 1:
            labels = labels[:, None] == np.arange(self.classes)
        parts = [labels] if self.appended is None else [labels, self.appended[rows].reshape(len(labels), -1)]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def _rows(self, epoch, index):
        check_whole(epoch, "epoch", 0)
        try:
            check_whole(index, "index", 0, len(self) - 1)
        except ValueError as error:
            raise IndexError(str(error)) from None  # at which an iteration ends
        rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self._permutation(epoch)[rows] if self.training else rows

    def _permutation(self, epoch):
        known, order = self._order
        if known != epoch:
            order = self.rng(ORDER, epoch).permutation(len(self.images))
            self._order = (epoch, order)
        return order


def _own(images, copy=True):
    """Returns a copy of images in memory, uint8 or float32; with `copy=None` only where they are of another dtype."""
    return np.array(images, np.uint8 if images.dtype == np.uint8 else np.float32, copy=copy)


def _check_features(features, **for_images):
    """Raises `ValueError` for arguments that are for images, given beside features."""
    given = [name for name, value in for_images.items() if value is not None]
    if given:
        raise ValueError(
            f"`{given[0]}` is for images of shape (N, H, W, C). Received: `images` of shape {features.shape}"
        )


def _check_labels(images, labels, classes):
    check_array(images, "images"), check_array(labels, "labels")
    if len(images) != len(labels) or len(labels) == 0:
        raise ValueError(
            f"`images` and `labels` must be of the same length, at least 1. Received: {len(images)} and {len(labels)}"
        )
    if labels.dtype.kind == "f" and labels.ndim == 2:
        _check_distributions(labels, classes)
        return
    if labels.ndim != 1:
        raise ValueError(f"`labels` must be of shape ({len(labels)},). Received: shape {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"`labels` must be integers, or distributions of shape ({len(labels)}, {classes}). Received: dtype "
            f"{labels.dtype}"
        )
    if (labels == -1).all():
        raise ValueError(f"`labels` must be in 0..{classes - 1}. Received: -1 for all, a split without labels")
    _refuse_others(labels, (labels >= 0) & (labels < classes), f"`labels` must be in 0..{classes - 1}")


def _check_distributions(labels, classes):
    if labels.shape[1] != classes:
        raise ValueError(f"`labels` must be of shape ({len(labels)}, {classes}). Received: shape {labels.shape}")
    right = (labels >= 0).all(axis=1) & (np.abs(labels.sum(axis=1, dtype=np.float64) - 1) <= 1e-3)
    _refuse_others(labels, right, "Float `labels` must be distributions: not negative, of sum 1")


def _refuse_others(labels, right, rule):
    """Raises `ValueError` with the number of labels that are not right, and the first of them, if there is one."""
    wrong = np.flatnonzero(~right)
    if len(wrong):
        raise ValueError(f"{rule}. Received: {len(wrong)} others, the first labels[{wrong[0]}]={labels[wrong[0]]}")


def _check_appended(images, appended, mixing):
    if mixing is not None:
        raise ValueError(f"`appended` belongs to unmixed images: `mixing` must be None. Received: mixing={mixing}")
    if check_array(appended, "appended").dtype.kind != "f" or len(appended) != len(images):
        raise ValueError(
            f"`appended` must be floats of shape ({len(images)}, ...). Received: {appended.dtype} of shape "
            f"{appended.shape}"
        )
