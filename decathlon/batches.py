"""Seeded batches for any Keras backend, in NumPy."""

import math
from dataclasses import dataclass
from numbers import Integral

import keras
import numpy as np

from decathlon.arguments import (
    check_array,
    check_bool,
    check_images,
    check_kind,
    check_number,
    check_rng,
    check_whole,
    shown,
)
from decathlon.display import Shown
from decathlon.mixing import RICAP, CutMix, CutOut, Mixing, MixUp

__all__ = [
    "RICAP",
    "Augmentation",
    "Batches",
    "CutMix",
    "CutOut",
    "Denoising",
    "MixUp",
    "Noise",
    "WithOutliers",
    "augment",
]

FILLS = ("zero", "reflect")
SAMPLE = 1000  # images that are looked at to tell on what scale all are
OUTSIDE = -1  # a place that is not in an image
LEVELS = np.arange(256, dtype=np.float32) / 255  # what the bytes of an image stand for
# Streams of random numbers that never meet.
ORDER, AUGMENTATION, OUTLIER_ORDER, OUTLIER_OFFSET, OUTLIER_AUGMENTATION, MIXING, NOISE = range(7)
OUTLIER = -1  # the label of an outlier


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
        check_number(self.shift, "shift", "[0, 0.5)")
        object.__setattr__(self, "flip", check_bool(self.flip, "flip"))
        if self.fill not in FILLS:
            raise ValueError(f"`fill` must be one of {', '.join(FILLS)}. Received: fill={self.fill!r}")


class Batches(Shown, keras.utils.PyDataset):
    """Batches of float32 images in [0, 1] minus the mean, and labels.

    What a batch holds depends on `(seed, epoch, index)` and nothing else, so a resumed run sees what an
    uninterrupted one would.

    Labels of a batch are int64 class indices of shape `(B,)`. They are float32 distributions of shape `(B, K)` if the
    labels given are, and in training with a mixing; with `appended` they are `[distribution | row]`, of shape
    `(B, K + D)`.

    Args:
        images: Array of shape `(N, H, W, C)`: uint8, or floats in [0, 255]. Memory-mapped ones are read row by row.
        labels: Integer array of shape `(N,)`, each in 0..K-1, or float array of shape `(N, K)` whose rows are
            distributions over the classes.
        classes: K.
        batch_size: Images per batch.
        training: Whether to shuffle, to augment and to drop the last, partial batch.
        mean: float32 array of shape `(H, W, C)` in [0, 1] to subtract; `None` only scales.
        augmentation: An `Augmentation`, or `None`; applied in training only.
        seed: Integer from which order, augmentation and mixing are drawn.
        epoch: The epoch to begin with.
        mixing: A `Mixing`, or `None`; applied in training only. `MixUp`, `CutMix`, `RICAP` and `CutOut` come last;
            a `KerasLayer` comes first and gets the images as they are stored.
        appended: Float array of shape `(N, ...)` or `None`: what follows the label of each image, flattened to a row
            of length D, such as the stored logits of teachers. Memory-mapped ones are read row by row. It belongs to
            unmixed images, so it does not go with `mixing`.

    Raises:
        ValueError: If images are of another type or, by up to 1,000 of them, on another scale, if labels are neither
            integers in 0..K-1 in one row nor distributions over K classes, if images, labels and `appended` differ in
            number, if `appended` is given with a mixing, if a training set does not fill one batch, or if another
            argument is of another type or out of range.

    Example:

    >>> images, labels = decathlon.open("digits").split("train")
    >>> batches = decathlon.Batches(images, labels, classes=10, batch_size=64, training=True)
    >>> len(batches), batches[0][0].shape
    (22, (64, 8, 8, 1))
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
        mean=None,
        augmentation=None,
        seed=0,
        epoch=0,
        mixing=None,
        appended=None,
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
        _check_images(images)
        if mean is not None:
            _check_mean(mean, images.shape[1:])
        if appended is not None:
            _check_appended(images, appended, mixing)
        self.images = images
        self.labels = labels
        self.classes = classes
        self.batch_size = batch_size
        self.training = training
        self.mean = mean
        self.augmentation = augmentation if training else None
        self.seed = seed
        self.epoch = epoch
        self.mixing = mixing if training else None
        self.appended = appended
        self._order = (None, None)

    @property
    def num_batches(self):
        count = len(self.images)
        return count // self.batch_size if self.training else -(-count // self.batch_size)

    @property
    def has_class_indices(self):
        """Whether the labels of a batch are class indices, not distributions."""
        return self.labels.ndim == 1 and self.mixing is None and self.appended is None

    @property
    def is_finishable(self):
        """Whether `unfinished` and `finish` make a batch: unless there is a mixing."""
        return self.mixing is None

    def __len__(self):
        return self.num_batches

    def __getitem__(self, index):
        return self.batch(self.epoch, index)

    def on_epoch_end(self):
        self.epoch += 1

    def batch(self, epoch, index):
        """Returns `(images, labels)` of batch `index` of an epoch."""
        if self.mixing is None:
            parts, labels = self.unfinished(epoch, index)
            return self.finish(*parts, mean=self.mean), labels
        rows = self._rows(epoch, index)
        images, labels = self.images[rows], self._labels(rows)
        rng = np.random.default_rng([AUGMENTATION, self.seed, epoch, index])
        mixing_rng = np.random.default_rng([MIXING, self.seed, epoch, index])
        if self.mixing.takes_raw_images:
            images, labels = self.mixing(images.astype(np.float32, subok=False), labels, mixing_rng)
            return self.normalise(images, rng), labels
        return self.mixing(self.normalise(images, rng), labels, mixing_rng)

    def unfinished(self, epoch, index):
        """Returns `(parts, labels)` of a batch without a mixing: its images are `finish(*parts, mean=self.mean)`.

        The parts are a quarter of the images' bytes, for a device that finishes them itself.
        """
        rows = self._rows(epoch, index)
        rng = np.random.default_rng([AUGMENTATION, self.seed, epoch, index])
        return self.parts(self.images[rows], rng), self._labels(rows)

    @staticmethod
    def finish(images, *places, mean=None, xp=np):
        """Returns images in [0, 255] as float32 in [0, 1] minus the mean, and augmented.

        Args:
            images: Array of shape `(N, H, W, C)`.
            *places: Where each row and each column comes from, as `draw_places` draws it; none without augmentation.
            mean: float32 array of shape `(H, W, C)`, or `None`.
            xp: The module whose arrays are given, with the functions of NumPy: `numpy` or `jax.numpy`.
        """
        is_bytes = images.dtype == np.uint8
        images = xp.take(LEVELS, images) if is_bytes else images.astype(np.float32) / np.float32(255)
        if mean is not None:
            images = images - mean
        return move(images, *places, xp) if places else images

    def normalise(self, images, rng):
        """Returns images in [0, 255] as float32 in [0, 1] minus the mean, augmented with what `rng` draws."""
        return self.finish(*self.parts(images, rng), mean=self.mean)

    def parts(self, images, rng):
        """Returns what `finish` makes of images in [0, 255]: them, and in training the places that `rng` draws."""
        places = () if self.augmentation is None else draw_places(images.shape, self.augmentation, rng)
        return np.asarray(images), *places

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


class _Wrapper(Shown, keras.utils.PyDataset):
    """Batches made from other batches: as many, of the same epoch."""

    def __init__(self, inner):
        super().__init__()
        self._inner = inner

    @property
    def epoch(self):
        return self._inner.epoch

    @epoch.setter
    def epoch(self, epoch):
        self._inner.epoch = epoch

    @property
    def num_batches(self):
        return len(self._inner)

    def __len__(self):
        return self.num_batches

    def __getitem__(self, index):
        return self.batch(self.epoch, index)

    def on_epoch_end(self):
        self._inner.on_epoch_end()


class WithOutliers(_Wrapper):
    """Familiar batches with outliers among them, labelled -1, for one forward pass (Hendrycks et al. 2019).

    Outliers are normalised and augmented as the familiar images are. As in the authors' code they are read in one fixed
    order, from an offset that each epoch draws anew, and from the start again after the last; the order is drawn here,
    since files of a folder are sorted by class. Familiar images and outliers are spread evenly over a batch, so that
    replicas that share it all get the same mixture.

    Args:
        familiar: Training `Batches` whose labels are class indices: without a mixing, and with nothing appended.
        images: Array of outliers of shape `(M, H, W, C)` with the H, W, C of the familiar ones: uint8, or floats in
            [0, 255].
        batch_size: Outliers per batch, added to the familiar images.

    Raises:
        ValueError: If the familiar labels are distributions, if the outliers are of another type or shape or on
            another scale, or if there are none.

    Example:

    >>> digits = decathlon.open("digits")
    >>> familiar = decathlon.Batches(*digits.split("train"), classes=10, batch_size=4, training=True)
    >>> outliers = 255 - digits.split("train")[0]
    >>> images, labels = decathlon.WithOutliers(familiar, outliers, batch_size=8)[0]
    >>> len(images), (labels == -1).nonzero()[0].tolist()
    (12, [1, 2, 4, 5, 7, 8, 10, 11])
    """

    is_finishable = True
    finish = staticmethod(Batches.finish)

    def __init__(self, familiar, images, batch_size):
        super().__init__(check_kind(familiar, "familiar", Batches, "`Batches`"))
        if not familiar.has_class_indices:
            raise ValueError(
                "`familiar` must have class indices as labels, beside which -1 marks an outlier. Received: labels of "
                f"shape {familiar.labels.shape}, mixing={familiar.mixing}, "
                f"appended={familiar.appended if familiar.appended is None else familiar.appended.shape}"
            )
        if check_array(images, "images").shape[1:] != familiar.images.shape[1:] or len(images) == 0:
            raise ValueError(
                f"`images` must hold outliers of shape {familiar.images.shape[1:]}. Received: shape {images.shape}"
            )
        check_whole(batch_size, "batch_size", 1)
        _check_images(images)
        self.familiar = familiar
        self.images = images
        self.batch_size = batch_size
        self._order = np.random.default_rng([OUTLIER_ORDER, familiar.seed]).permutation(len(images))

    @property
    def mean(self):
        return self.familiar.mean

    def batch(self, epoch, index):
        """Returns `(images, labels)` of batch `index` of an epoch."""
        parts, labels = self.unfinished(epoch, index)
        return self.finish(*parts, mean=self.mean), labels

    def unfinished(self, epoch, index):
        """Returns `(parts, labels)` of a batch, whose images are `finish(*parts, mean=self.mean)`."""
        familiar, labels = self.familiar.unfinished(epoch, index)
        seed = self.familiar.seed
        offset = np.random.default_rng([OUTLIER_OFFSET, seed, epoch]).integers(len(self.images))
        places = offset + index * self.batch_size + np.arange(self.batch_size)
        rng = np.random.default_rng([OUTLIER_AUGMENTATION, seed, epoch, index])
        outliers = self.familiar.parts(self.images[self._order[places % len(self.images)]], rng)
        spread = _evenly(len(labels), self.batch_size)
        parts = tuple(np.concatenate(pair)[spread] for pair in zip(familiar, outliers, strict=True))
        return parts, np.concatenate([labels, np.full(self.batch_size, OUTLIER)])[spread]

    def _facts(self):
        return {"familiar": self.familiar, "images": self.images.shape, "batch_size": self.batch_size}


@dataclass(frozen=True)
class Noise:
    """What hides images from a denoising autoencoder: a random square, and Gaussian noise over all, square included.

    Song, "Deep Learning Lab final project report", section 3.2 and Figure 3. The paper gives the square's sides, but
    neither its fill nor the deviation. Here the square is of one grey level per image, drawn from U[0, 1], and noised
    images are not clipped.

    Attributes:
        deviation: Standard deviation of the Gaussian noise on images in [0, 1]; 0 for none.
        sides: Smallest and largest side of the square, in pixels; each whole number of these is as likely, and so is
            each place inside the image.
    """

    deviation: float = 0.3
    sides: tuple[int, int] = (10, 14)

    def __post_init__(self):
        check_number(self.deviation, "deviation", "[0, inf)")
        pair = isinstance(self.sides, tuple | list) and [
            isinstance(side, Integral) and not isinstance(side, bool) for side in self.sides
        ]
        if pair != [True, True] or not 1 <= self.sides[0] <= self.sides[1]:
            raise ValueError(
                "`sides` must be the smallest and the largest side: two whole numbers, at least 1, in ascending order. "
                f"Received: sides={shown(self.sides)}"
            )

    def __call__(self, images, mean, rng):
        """Returns images under noise.

        Args:
            images: float32 array of shape `(N, H, W, C)`: images in [0, 1], minus `mean` where there is one.
            mean: float32 array of shape `(H, W, C)`, or `None`; the square is that much darker, as the images are.
            rng: A `numpy.random.Generator`.

        Raises:
            ValueError: If an argument is of another type or shape, or if the largest square does not fit into images.
        """
        count, height, width = check_images(images, "images").shape[:3]
        if self.sides[1] > min(height, width):
            raise ValueError(f"`images` must have sides of at least {self.sides[1]}. Received: {height}x{width}")
        if mean is not None:
            _check_mean(mean, images.shape[1:])
        check_rng(rng)
        side = rng.integers(self.sides[0], self.sides[1] + 1, size=(count, 1))
        rows, columns = (_span(side, extent, rng) for extent in (height, width))
        square = (rows[:, :, None] & columns[:, None, :])[..., None].astype(np.float32)
        fill = rng.random((count, 1, 1, 1), np.float32)
        noised = rng.standard_normal(images.shape, np.float32)
        noised *= np.float32(self.deviation)
        noised += images * (1 - square)
        noised += square * (fill if mean is None else fill - mean)
        return noised


def _span(side, extent, rng):
    """Returns which of `extent` rows or columns a square of `side` covers, wherever it lies: shape `(N, extent)`."""
    start = rng.integers(0, extent - side + 1)
    place = np.arange(extent)
    return (place >= start) & (place < start + side)


class Denoising(_Wrapper):
    """Noised images with two targets, for a classifier and a denoising autoencoder on one trunk (Song, section 3).

    A batch is `(noised, {"class": labels, "image": images})`: the labels and images are those of the wrapped batches,
    normalised and augmented. What noise a batch gets depends on `(seed, epoch, index)` and nothing else; evaluation
    batches get the same in every epoch.

    Args:
        batches: `Batches`, for training or evaluation.
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
        super().__init__(check_kind(batches, "batches", Batches, "`Batches`"))
        check_kind(noise, "noise", Noise | None, "a `Noise` or None")
        height, width = batches.images.shape[1:3]
        if noise is not None and noise.sides[1] > min(height, width):
            raise ValueError(
                f"`noise` must have sides of at most {min(height, width)} pixels, for images of {height}x{width}. "
                f"Received: sides={noise.sides}"
            )
        self.batches = batches
        self.noise = noise

    def batch(self, epoch, index):
        """Returns `(noised, {"class": labels, "image": images})` of batch `index` of an epoch."""
        images, labels = self.batches.batch(epoch, index)
        targets = {"class": labels, "image": images}
        if self.noise is None:
            return images, targets
        rng = np.random.default_rng([NOISE, self.batches.seed, epoch if self.batches.training else 0, index])
        return self.noise(images, self.batches.mean, rng), targets

    def _facts(self):
        return {"batches": self.batches, "noise": self.noise}


def _evenly(first, second):
    """Returns the order that spreads `first` things and the `second` that follow them evenly over one row."""
    return np.argsort(np.concatenate([np.arange(first) / first, np.arange(second) / second]), kind="stable")


def augment(images, augmentation, rng):
    """Shifts and mirrors each image of a batch on its own.

    Args:
        images: Float array of shape `(N, H, W, C)`.
        augmentation: An `Augmentation`.
        rng: A `numpy.random.Generator`.

    Returns:
        Array of the same shape.

    Raises:
        ValueError: If an argument is of another type or shape.
    """
    check_images(images, "images"), check_rng(rng)
    check_kind(augmentation, "augmentation", Augmentation, "an `Augmentation`")
    return move(images, *draw_places(images.shape, augmentation, rng))


def draw_places(shape, augmentation, rng):
    """Draws where each row and each column of augmented images comes from.

    Args:
        shape: `(N, H, W, C)`.
        augmentation: An `Augmentation`.
        rng: A `numpy.random.Generator`.

    Returns:
        int32 arrays of shapes `(N, H)` and `(N, W)`; `OUTSIDE` is what lies outside the image and is to be 0.
    """
    count, height, width = shape[:3]
    shifts = [int(augmentation.shift * side + 1e-9) for side in (height, width)]
    rows, columns = (
        np.arange(side) + rng.integers(-most, most + 1, size=(count, 1))
        for side, most in zip((height, width), shifts, strict=True)
    )
    if augmentation.flip:
        columns = np.where(rng.random((count, 1)) < 0.5, columns[:, ::-1], columns)
    return tuple(_filled(places, side, augmentation.fill) for places, side in ((rows, height), (columns, width)))


def _filled(places, side, fill):
    """Returns places of which those outside of an image's side are mirrored into it, or `OUTSIDE`."""
    if fill == "reflect":
        last = side - 1
        inside = last - np.abs(last - np.abs(places))
    else:
        inside = np.where((places >= 0) & (places < side), places, OUTSIDE)
    return inside.astype(np.int32)


def move(images, rows, columns, xp=np):
    """Returns images whose pixels come from the places that `draw_places` has drawn.

    Args:
        images: Array of shape `(N, H, W, C)`.
        rows: Integer array of shape `(N, H)`.
        columns: Integer array of shape `(N, W)`.
        xp: The module whose arrays are given: `numpy` or `jax.numpy`.
    """
    count, height, width, channels = images.shape
    rows, columns = rows[:, :, None], columns[:, None, :]
    first = height * width * xp.arange(count)[:, None, None]
    blank = count * height * width  # a pixel behind the last one
    pixels = xp.where((rows == OUTSIDE) | (columns == OUTSIDE), blank, first + width * rows + columns)
    source = xp.concatenate([images.reshape(-1, channels), xp.zeros((1, channels), np.float32)])
    return xp.take(source, pixels.reshape(-1), axis=0).reshape(images.shape)


def _one_hot(labels, classes):
    distributions = np.zeros((len(labels), classes), np.float32)
    distributions[np.arange(len(labels)), labels] = 1
    return distributions


def _check_images(images):
    """Raises `ValueError` for images that are no bytes and do not look like ones.

    Floats are told by `SAMPLE` images, evenly spaced from the first to the last, lest a large array be read.
    """
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"`images` must be of shape (N, H, W, C). Received: shape {images.shape}")
    if images.dtype == np.uint8:
        return
    allowed = "`images` must be uint8, or floats in 0..255"
    if images.dtype.kind != "f":
        raise ValueError(f"{allowed}. Received: {images.dtype}")
    rows = np.linspace(0, len(images) - 1, min(len(images), SAMPLE)).astype(int)
    extremes = np.array([(image.min(), image.max()) for image in map(images.__getitem__, rows)])
    least, most = extremes[:, 0].min(), extremes[:, 1].max()  # NaN if there is one
    if not (least >= 0 and most <= 255):
        raise ValueError(f"{allowed}. Received: {images.dtype} in [{least:.4g}, {most:.4g}]")
    if most <= 1:
        raise ValueError(f"{allowed}. Received: {images.dtype} in [0, 1]: multiply them by 255")


def _check_mean(mean, shape):
    """Raises `ValueError` unless a mean image has a shape and lies in [0, 1], as `Dataset.mean` does."""
    if check_array(mean, "mean").dtype != np.float32 or mean.shape != shape:
        raise ValueError(f"`mean` must be float32 of shape {shape}. Received: {mean.dtype} of shape {mean.shape}")
    if not (mean.min() >= 0 and mean.max() <= 1):
        raise ValueError(f"`mean` must lie in [0, 1]. Received: values in [{mean.min():.4g}, {mean.max():.4g}]")


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
