"""Seeded batches of pixels for any Keras backend, in NumPy."""

import math

import keras
import numpy as np

from decathlon.arguments import as_blank, check_array, check_bool, check_kind, check_whole
from decathlon.augmentation import LEVELS, Augmentation, Noise, augment
from decathlon.display import Shown
from decathlon.mixing import Mixing

__all__ = ["Batches", "Denoising", "WithOutliers"]

SAMPLE = 1000  # images that are looked at to tell on what scale all are
# Streams of random numbers that never meet.
ORDER, AUGMENTATION, OUTLIER_ORDER, OUTLIER_OFFSET, OUTLIER_AUGMENTATION, MIXING, NOISE = range(7)
OUTLIER = -1  # the label of an outlier


class Batches(Shown, keras.utils.PyDataset):
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
        _check_images(images, "images")
        if images.ndim != 4:
            _check_features(images, augmentation=augmentation, mixing=mixing, blank=blank)
        if blank is not None:
            as_blank(blank, images)
            _check_images(blank[None], "blank")
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

    def __len__(self):
        return self.num_batches

    def __getitem__(self, index):
        return self.batch(self.epoch, index)

    def on_epoch_end(self):
        self.epoch += 1

    def batch(self, epoch, index):
        """Returns `(images, labels)` of batch `index` of an epoch."""
        rows = self._rows(epoch, index)
        labels = self._labels(rows)
        rng, mixing_rng = (
            np.random.default_rng([stream, self.seed, epoch, index]) for stream in (AUGMENTATION, MIXING)
        )
        if self.mixing is None:
            return self.varied(self.images[rows], rng), labels
        if self.mixing.comes_first:
            images, labels = self.mixing(_own(self.images[rows]), labels, mixing_rng, self.blank)
            return self.varied(images, rng), labels
        return self.mixing(self.varied(self.images[rows], rng), labels, mixing_rng, self.blank)

    def varied(self, images, rng):
        """Returns images as these batches give them: uint8 or float32, in training augmented with what `rng` draws."""
        images = _own(images)
        return images if self.augmentation is None else augment(images, self.augmentation, rng, self.blank)

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
            labels = _one_hot(labels, self.classes)
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
            order = np.random.default_rng([ORDER, self.seed, epoch]).permutation(len(self.images))
            self._order = (epoch, order)
        return order


class Wrapper(Shown, keras.utils.PyDataset):
    """Batches made from other batches: as many, of the same epoch."""

    def __init__(self, batches):
        super().__init__()
        self.batches = check_kind(batches, "batches", Batches, "`Batches`")

    @property
    def epoch(self):
        return self.batches.epoch

    @epoch.setter
    def epoch(self, epoch):
        self.batches.epoch = epoch

    @property
    def num_batches(self):
        return len(self.batches)

    def __len__(self):
        return self.num_batches

    def __getitem__(self, index):
        return self.batch(self.epoch, index)

    def on_epoch_end(self):
        self.batches.on_epoch_end()


class WithOutliers(Wrapper):
    """In-distribution (ID) batches with outliers among them, labelled -1, for one forward pass (Hendrycks et al. 2019).

    Outliers are augmented as the ID images are. As in the authors' code they are read in one fixed order, from an
    offset that each epoch draws anew, and from the start again after the last; the order is drawn here, since files of
    a folder are sorted by class. ID images and outliers are spread evenly over a batch, so that replicas that share it
    all get the same mixture.

    Args:
        batches: Training `Batches` whose labels are class indices: without a mixing, and with nothing appended.
        images: Array of outliers of shape `(M, H, W, C)` with the H, W, C of the ID images: uint8, or floats in
            [0, 255].
        batch_size: Outliers per batch, added to the ID images.

    Raises:
        ValueError: If the ID labels are distributions, if the outliers are of another type or shape or on another
            scale, or if there are none.

    Example:

    >>> digits = decathlon.open("digits")
    >>> batches = decathlon.Batches(*digits.split("train"), classes=10, batch_size=4, training=True)
    >>> outliers = 255 - digits.split("train")[0]
    >>> images, labels = decathlon.WithOutliers(batches, outliers, batch_size=8)[0]
    >>> len(images), (labels == -1).nonzero()[0].tolist()
    (12, [1, 2, 4, 5, 7, 8, 10, 11])
    """

    def __init__(self, batches, images, batch_size):
        super().__init__(batches)
        if not batches.has_class_indices:
            raise ValueError(
                "`batches` must have class indices as labels, beside which -1 marks an outlier. Received: labels of "
                f"shape {batches.labels.shape}, mixing={batches.mixing}, "
                f"appended={batches.appended if batches.appended is None else batches.appended.shape}"
            )
        if check_array(images, "images").shape[1:] != batches.images.shape[1:] or len(images) == 0:
            raise ValueError(
                f"`images` must hold outliers of shape {batches.images.shape[1:]}. Received: shape {images.shape}"
            )
        check_whole(batch_size, "batch_size", 1)
        _check_images(images, "images")
        self.images = images
        self.batch_size = batch_size
        self._order = np.random.default_rng([OUTLIER_ORDER, batches.seed]).permutation(len(images))

    def batch(self, epoch, index):
        """Returns `(images, labels)` of batch `index` of an epoch."""
        images, labels = self.batches.batch(epoch, index)
        seed = self.batches.seed
        offset = np.random.default_rng([OUTLIER_OFFSET, seed, epoch]).integers(len(self.images))
        places = offset + index * self.batch_size + np.arange(self.batch_size)
        rng = np.random.default_rng([OUTLIER_AUGMENTATION, seed, epoch, index])
        outliers = self.batches.varied(self.images[self._order[places % len(self.images)]], rng)
        spread = _evenly(len(labels), self.batch_size)
        labels = np.concatenate([labels, np.full(self.batch_size, OUTLIER)])
        return np.concatenate([images, outliers])[spread], labels[spread]

    def _facts(self):
        return {"batches": self.batches, "images": self.images.shape, "batch_size": self.batch_size}


class Denoising(Wrapper):
    """Noised images with two targets, for a classifier and a denoising autoencoder on one trunk (Song, section 3).

    A batch is `(noised, {"class": labels, "image": images / 255})`: the labels and images are those of the wrapped
    batches. Noised images are float32 with pixels around 0..255, images as targets float32 in [0, 1]. What noise a
    batch gets depends on `(seed, epoch, index)` and nothing else; evaluation batches get the same in every epoch.

    Args:
        batches: `Batches` of images, for training or evaluation.
        noise: A `Noise`, or `None`: the images are given as they are.

    Raises:
        ValueError: If the largest square does not fit into the images, or if an argument is of another type.

    Example:

    >>> images, labels = decathlon.open("digits").split("train")
    >>> batches = decathlon.Batches(images, labels, classes=10, batch_size=64, training=True)
    >>> noised, targets = decathlon.Denoising(batches, decathlon.Noise(deviation=0.3, sides=(3, 4)))[0]
    >>> noised.shape, {name: target.shape for name, target in targets.items()}
    ((64, 8, 8, 1), {'class': (64,), 'image': (64, 8, 8, 1)})
    """

    def __init__(self, batches, noise):
        super().__init__(batches)
        check_kind(noise, "noise", Noise | None, "a `Noise` or None")
        if batches.images.ndim != 4:
            raise ValueError(
                f"`batches` must hold images of shape (N, H, W, C). Received: features of shape {batches.images.shape}"
            )
        height, width = batches.images.shape[1:3]
        if noise is not None and noise.sides[1] > min(height, width):
            raise ValueError(
                f"`noise` must have sides of at most {min(height, width)} pixels, for images of {height}x{width}. "
                f"Received: sides={noise.sides}"
            )
        self.noise = noise

    def batch(self, epoch, index):
        """Returns `(noised, {"class": labels, "image": images / 255})` of batch `index` of an epoch."""
        images, labels = self.batches.batch(epoch, index)
        targets = {"class": labels, "image": images / np.float32(LEVELS)}
        if self.noise is None:
            return images, targets
        rng = np.random.default_rng([NOISE, self.batches.seed, epoch if self.batches.training else 0, index])
        return self.noise(images, rng), targets

    def _facts(self):
        return {"batches": self.batches, "noise": self.noise}


def _evenly(first, second):
    """Returns the order that spreads `first` things and the `second` that follow them evenly over one row."""
    return np.argsort(np.concatenate([np.arange(first) / first, np.arange(second) / second]), kind="stable")


def _own(images):
    """Returns a copy of images in memory: uint8, or float32."""
    return np.array(images, np.uint8 if images.dtype == np.uint8 else np.float32)


def _one_hot(labels, classes):
    distributions = np.zeros((len(labels), classes), np.float32)
    distributions[np.arange(len(labels)), labels] = 1
    return distributions


def _check_images(images, name):
    """Raises `ValueError` for images that are no bytes and do not look like ones, and for features that are not finite.

    Floats are told by `SAMPLE` images, evenly spaced from the first to the last, lest a large array be read.
    """
    if 0 in images.shape or images.ndim < 2 or (images.ndim != 4 and images.dtype.kind != "f"):
        raise ValueError(
            f"`{name}` must be images of shape (N, H, W, C), or float features of shape (N, ...). Received: "
            f"{images.dtype} of shape {images.shape}"
        )
    if images.dtype == np.uint8:
        return
    allowed = f"`{name}` must be uint8, or floats in 0..255" if images.ndim == 4 else f"`{name}` must be finite"
    if images.dtype.kind != "f":
        raise ValueError(f"{allowed}. Received: {images.dtype}")
    rows = np.linspace(0, len(images) - 1, min(len(images), SAMPLE)).astype(int)
    extremes = np.array([(image.min(), image.max()) for image in map(images.__getitem__, rows)])
    least, most = extremes[:, 0].min(), extremes[:, 1].max()  # NaN if there is one
    low, high = (0, 255) if images.ndim == 4 else np.finfo(np.float32).max * np.array([-1, 1])
    if not (least >= low and most <= high):
        raise ValueError(f"{allowed}. Received: {images.dtype} in [{least:.4g}, {most:.4g}]")
    if images.ndim == 4 and most <= 1:
        raise ValueError(f"{allowed}. Received: {images.dtype} in [0, 1]: multiply them by 255")


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
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong) == len(labels) and (labels[wrong] == -1).all():
        raise ValueError(f"`labels` must be in 0..{classes - 1}. Received: -1 for all, a split without labels")
    if len(wrong):
        raise ValueError(
            f"`labels` must be in 0..{classes - 1}. Received: {len(wrong)} others, the first labels[{wrong[0]}]="
            f"{labels[wrong[0]]}"
        )


def _check_distributions(labels, classes):
    if labels.shape[1] != classes:
        raise ValueError(f"`labels` must be of shape ({len(labels)}, {classes}). Received: shape {labels.shape}")
    right = (labels >= 0).all(axis=1) & (np.abs(labels.sum(axis=1, dtype=np.float64) - 1) <= 1e-3)
    if not right.all():
        wrong = np.flatnonzero(~right)
        raise ValueError(
            f"Float `labels` must be distributions: not negative, of sum 1. Received: {len(wrong)} others, the first "
            f"labels[{wrong[0]}]={labels[wrong[0]]}"
        )


def _check_appended(images, appended, mixing):
    if mixing is not None:
        raise ValueError(f"`appended` belongs to unmixed images: `mixing` must be None. Received: mixing={mixing}")
    if check_array(appended, "appended").dtype.kind != "f" or len(appended) != len(images):
        raise ValueError(
            f"`appended` must be floats of shape ({len(images)}, ...). Received: {appended.dtype} of shape "
            f"{appended.shape}"
        )
