"""Batches made from other batches: with outliers among them, or noised."""

import numpy as np

from decathlon.arguments import check_array, check_kind, check_pixels, check_whole
from decathlon.augmentation import LEVELS, Noise
from decathlon.batches import NOISE, OUTLIER_AUGMENTATION, OUTLIER_OFFSET, OUTLIER_ORDER, Batches, SeededBatches

OUTLIER = -1  # the label of an outlier


class Wrapper(SeededBatches):
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
        check_pixels(images, "images")
        self.images = images
        self.batch_size = batch_size
        self._order = batches.rng(OUTLIER_ORDER).permutation(len(images))

    def batch(self, epoch, index):
        """Returns `(images, labels)` of batch `index` of an epoch."""
        images, labels = self.batches.batch(epoch, index)
        offset = self.batches.rng(OUTLIER_OFFSET, epoch).integers(len(self.images))
        places = offset + index * self.batch_size + np.arange(self.batch_size)
        rng = self.batches.rng(OUTLIER_AUGMENTATION, epoch, index)
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
        rng = self.batches.rng(NOISE, epoch if self.batches.training else 0, index)
        return self.noise(images, rng), targets

    def _facts(self):
        return {"batches": self.batches, "noise": self.noise}


def _evenly(first, second):
    """Returns the order that spreads `first` things and the `second` that follow them evenly over one row."""
    return np.argsort(np.concatenate([np.arange(first) / first, np.arange(second) / second]), kind="stable")
