"""Seeded batches for any Keras backend, in NumPy."""

from dataclasses import dataclass

import keras
import numpy as np

FILLS = ("zero", "reflect")
ORDER, AUGMENTATION = 0, 1  # streams of random numbers that never meet


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied, as in Mezzini 2018, section 4.

    Attributes:
        shift: Largest shift in both directions as a share of height and width; whole pixels, rounded down.
        flip: Whether to mirror every second image, on average, left to right.
        fill: What lies outside: `"zero"` (after the mean is subtracted: the mean image) or `"reflect"`.
    """

    shift: float = 0.1
    flip: bool = True
    fill: str = "zero"

    def __post_init__(self):
        if not 0 <= self.shift < 0.5:
            raise ValueError(f"`shift` must be in [0, 0.5). Received: shift={self.shift}")
        if self.fill not in FILLS:
            raise ValueError(f"`fill` must be one of {', '.join(FILLS)}. Received: fill={self.fill!r}")


class Batches(keras.utils.PyDataset):
    """Batches of float32 images in [0, 1] minus the mean, and int64 labels.

    What a batch holds depends on `(seed, epoch, index)` and nothing else, so a resumed run sees what an
    uninterrupted one would.

    Args:
        images: uint8 array of shape `(N, H, W, C)`; memory-mapped ones are read row by row.
        labels: Integer array of shape `(N,)`, each in 0..K-1.
        classes: K.
        batch_size: Images per batch.
        training: Whether to shuffle, to augment and to drop the last, partial batch.
        mean: float32 array of shape `(H, W, C)` in [0, 1] to subtract; `None` only scales.
        augmentation: An `Augmentation`, or `None`; applied in training only.
        seed: Integer from which order and augmentation are drawn.
        epoch: The epoch to begin with.

    Raises:
        ValueError: If labels are not integers in 0..K-1 in one row, if images and labels differ in number, or if a
            training set does not fill one batch.

    Example:

    >>> images, labels = decathlon.open("digits").split("train")
    >>> batches = decathlon.Batches(images, labels, classes=10, batch_size=64, training=True)
    >>> len(batches), batches[0][0].shape
    (22, (64, 8, 8, 1))
    """

    def __init__(
        self,
        images,
        labels,
        classes,
        batch_size,
        training=False,
        mean=None,
        augmentation=None,
        seed=0,
        epoch=0,
    ):
        super().__init__()
        _check_labels(images, labels, classes)
        if batch_size < 1 or (training and len(images) < batch_size):
            raise ValueError(
                f"`batch_size` must be in 1..{len(images)}, the number of images. Received: batch_size={batch_size}"
            )
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.training = training
        self.mean = mean
        self.augmentation = augmentation if training else None
        self.seed = seed
        self.epoch = epoch
        self._order = (None, None)

    @property
    def num_batches(self):
        count = len(self.images)
        return count // self.batch_size if self.training else -(-count // self.batch_size)

    def __len__(self):
        return self.num_batches

    def __getitem__(self, index):
        return self.batch(self.epoch, index)

    def on_epoch_end(self):
        self.epoch += 1

    def batch(self, epoch, index):
        """Returns `(images, labels)` of batch `index` of an epoch."""
        if not 0 <= index < len(self):
            raise IndexError(f"`index` must be in 0..{len(self) - 1}. Received: index={index}")
        rows = self._rows(epoch, index)
        images = self.images[rows].astype(np.float32, subok=False)
        images /= 255
        if self.mean is not None:
            images -= self.mean
        if self.augmentation is not None:
            rng = np.random.default_rng([AUGMENTATION, self.seed, epoch, index])
            images = augment(images, self.augmentation, rng)
        return images, np.array(self.labels[rows], np.int64)

    def _rows(self, epoch, index):
        rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self._permutation(epoch)[rows] if self.training else rows

    def _permutation(self, epoch):
        known, order = self._order
        if known != epoch:
            order = np.random.default_rng([ORDER, self.seed, epoch]).permutation(len(self.images))
            self._order = (epoch, order)
        return order


def augment(images, augmentation, rng):
    """Shifts and mirrors each image of a batch on its own.

    Args:
        images: Float array of shape `(N, H, W, C)`.
        augmentation: An `Augmentation`.
        rng: A `numpy.random.Generator`.

    Returns:
        Array of the same shape.
    """
    count, height, width = images.shape[:3]
    most_y, most_x = (int(augmentation.shift * side + 1e-9) for side in (height, width))
    y = np.arange(height) + rng.integers(0, 2 * most_y + 1, size=(count, 1))
    x = np.arange(width) + rng.integers(0, 2 * most_x + 1, size=(count, 1))
    if augmentation.flip:
        x = np.where(rng.random((count, 1)) < 0.5, x[:, ::-1], x)
    if most_y or most_x:
        mode = "reflect" if augmentation.fill == "reflect" else "constant"
        images = np.pad(images, ((0, 0), (most_y, most_y), (most_x, most_x), (0, 0)), mode=mode)
    return images[np.arange(count)[:, None, None], y[:, :, None], x[:, None, :]]


def _check_labels(images, labels, classes):
    if len(images) != len(labels) or len(labels) == 0:
        raise ValueError(
            f"`images` and `labels` must be of the same length, at least 1. Received: {len(images)} and {len(labels)}"
        )
    if labels.ndim != 1:
        raise ValueError(f"`labels` must be of shape ({len(labels)},). Received: shape {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"`labels` must be integers. Received: dtype {labels.dtype}")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong) == len(labels) and (labels[wrong] == -1).all():
        raise ValueError("`labels` are all -1: this split has no labels to train or to evaluate on.")
    if len(wrong):
        raise ValueError(
            f"`labels` must be in 0..{classes - 1}. Received: {len(wrong)} others, the first labels[{wrong[0]}]="
            f"{labels[wrong[0]]}"
        )
