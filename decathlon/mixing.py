"""Mixing of images and labels, cutting out, and any augmentation layer of Keras or keras-cv, for training batches."""

import ast
import itertools
from dataclasses import astuple, dataclass

import numpy as np

from decathlon.arguments import as_blank, check_array, check_images, check_kind, check_number, check_rng, check_whole
from decathlon.layers import build_layer


class Mixing:
    """What all mixings share: `mixing(images, labels, rng)` returns new images and labels and leaves its input alone.

    Args of the call:
        images: Array of shape `(N, H, W, C)`, uint8 or float32, with pixels in 0..255. Where pixels are only moved,
            those returned are of the same dtype; where they are blended, float32.
        labels: float32 label distributions of shape `(N, K)`.
        rng: A `numpy.random.Generator`; what is drawn from it decides everything.
        blank: Array of shape `(H, W, C)`, uint8 or floats: what lies where something is cut out; `None` is black.

    Its `str` is what `mixing_named` reads.

    Attributes:
        comes_first: Whether images come before they are shifted and mirrored, or after.
    """

    comes_first = False

    def __call__(self, images, labels, rng, blank=None):
        check_images(images, "images")
        if check_array(labels, "labels").ndim != 2 or labels.dtype.kind != "f" or len(labels) != len(images):
            raise ValueError(
                f"`labels` must be float distributions of shape ({len(images)}, K). Received: {labels.dtype} of shape "
                f"{labels.shape}"
            )
        return self.mix(images, labels, check_rng(rng), as_blank(blank, images))

    def __str__(self):
        name = type(self).__name__.lower()
        return name if self == type(self)() else f"{name}:{astuple(self)[0]}"


@dataclass(frozen=True)
class _Weighted(Mixing):
    """What draws its lambda from `Beta(alpha, alpha)`."""

    alpha: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "alpha", check_number(self.alpha, "alpha", "(0, inf)"))


class MixUp(_Weighted):
    """Blends each image of a batch, and its label, with another one of the batch.

    `x = lambda x_i + (1 - lambda) x_j` and `y = lambda y_i + (1 - lambda) y_j` with `lambda ~ Beta(alpha, alpha)`
    (Zhang et al. 2018, "mixup: Beyond empirical risk minimization", section 2). As in the authors' code there is one
    lambda per batch, and j is a permutation of the batch.

    Args:
        alpha: Both parameters of the beta distribution; 1, the default, is that of the authors' code for CIFAR-10.
            For ImageNet the paper finds 0.1 to 0.4 to help.

    Raises:
        ValueError: If `alpha` is not positive.

    Example:

    >>> images = np.array([0, 1], np.float32).reshape(2, 1, 1, 1)
    >>> mixed, labels = MixUp(alpha=0.2)(images, np.eye(2, dtype=np.float32), np.random.default_rng(1))
    >>> np.array_equal(mixed.ravel(), labels[:, 1])
    True
    """

    def mix(self, images, labels, rng, blank):
        images, weight = images.astype(np.float32), np.float32(rng.beta(self.alpha, self.alpha))
        partners = rng.permutation(len(images))
        return _blend(images, images[partners], weight), _blend(labels, labels[partners], weight)


class CutMix(_Weighted):
    """Pastes a box of another image of the batch into each image, and mixes the labels by area.

    The box has `sqrt(1 - lambda)` of each side, rounded down to whole pixels, with `lambda ~ Beta(alpha, alpha)`; its
    centre is uniform over the image, and what lies outside is cut off. A label gets the share of the pixels that its
    image holds (Yun et al. 2019, "CutMix: Regularization strategy to train strong classifiers with localizable
    features", section 3.1). As in the authors' code there is one box per batch, and the boxes' sources are a
    permutation of the batch. (Their code makes an odd side of the box one pixel shorter.)

    Args:
        alpha: Both parameters of the beta distribution; 1, the default, makes lambda uniform, as in the paper.

    Raises:
        ValueError: If `alpha` is not positive.

    Example:

    >>> images = np.broadcast_to(np.eye(2, dtype=np.float32)[:, None, None], (2, 4, 4, 2))
    >>> mixed, labels = CutMix()(images, np.eye(2, dtype=np.float32), np.random.default_rng(0))
    >>> np.array_equal(mixed.mean(axis=(1, 2)), labels)
    True
    """

    def mix(self, images, labels, rng, blank):
        height, width = images.shape[1:3]
        share = np.sqrt(1 - rng.beta(self.alpha, self.alpha))
        partners = rng.permutation(len(images))
        rows = _clipped(rng.integers(height), int(share * height), height)
        columns = _clipped(rng.integers(width), int(share * width), width)
        mixed = images.copy()
        mixed[:, rows, columns] = images[partners, rows, columns]
        return mixed, _blend(labels, labels[partners], 1 - _area(rows, columns) / (height * width))


@dataclass(frozen=True)
class RICAP(Mixing):
    """Random image cropping and patching: puts each image together from crops of four images of the batch.

    The four patches meet at `(w, h) = (round(W u), round(H v))` with `u, v ~ Beta(beta, beta)`; each is cropped at a
    uniform place of its image. A label gets the share of the pixels that its image holds (Takahashi et al. 2018,
    "RICAP: Random image cropping and patching data augmentation for deep CNNs", section 3). As in the paper's code the
    meeting point and the four places are drawn once per batch, and each patch's sources are a permutation of the batch.

    Args:
        beta: Both parameters of the beta distribution; 0.3, the default, is the authors' for CIFAR.

    Raises:
        ValueError: If `beta` is not positive.

    Example:

    >>> images = np.broadcast_to(np.eye(4, dtype=np.float32)[:, None, None], (4, 8, 8, 4))
    >>> mixed, labels = RICAP()(images, np.eye(4, dtype=np.float32), np.random.default_rng(0))
    >>> np.array_equal(mixed.mean(axis=(1, 2)), labels)
    True
    """

    beta: float = 0.3

    def __post_init__(self):
        object.__setattr__(self, "beta", check_number(self.beta, "beta", "(0, inf)"))

    def mix(self, images, labels, rng, blank):
        height, width = images.shape[1:3]
        h, w = (round(side * rng.beta(self.beta, self.beta)) for side in (height, width))
        mixed, mixed_labels = np.empty_like(images), np.zeros_like(labels)
        for rows, columns in itertools.product((slice(0, h), slice(h, height)), (slice(0, w), slice(w, width))):
            partners = rng.permutation(len(images))
            crop_rows, crop_columns = _crop(rows, height, rng), _crop(columns, width, rng)
            mixed[:, rows, columns] = images[partners, crop_rows, crop_columns]
            mixed_labels += _area(rows, columns) / (height * width) * labels[partners]
        return mixed, mixed_labels


@dataclass(frozen=True)
class CutOut(Mixing):
    """Cuts a square out of each image: what shows there is the `blank` image. Labels stay as they are.

    The square's centre is uniform over the image, drawn for each image on its own, and what lies outside is cut off
    (DeVries & Taylor 2017, "Improved regularization of convolutional neural networks with cutout", section 3.2).

    Args:
        size: Side of the square in pixels; 16, the default, is the authors' for CIFAR-10. For CIFAR-100 they take 8.

    Raises:
        ValueError: If `size` is not a positive integer.

    Example:

    >>> images, labels = np.ones((1, 8, 8, 1), np.float32), np.ones((1, 1), np.float32)
    >>> int(CutOut(size=3)(images, labels, np.random.default_rng(1))[0].sum())
    55
    """

    size: int = 16

    def __post_init__(self):
        object.__setattr__(self, "size", check_whole(self.size, "size", 1))

    def mix(self, images, labels, rng, blank):
        rows, columns = (self._places(rng.integers(side, size=(len(images), 1)), side) for side in images.shape[1:3])
        rows, columns = rows[:, :, None], columns[:, None, :]
        mixed = images.copy()
        mixed[np.arange(len(images))[:, None, None], rows, columns] = blank[rows, columns]
        return mixed, labels

    def _places(self, centres, side):
        """Returns the rows or columns that squares cover; what lies outside counts as the border, which they cover."""
        return np.clip(centres - self.size // 2 + np.arange(self.size), 0, side - 1)


class KerasLayer(Mixing):
    """Varies images by an image augmentation layer of Keras or keras-cv.

    The layer gets float32 images in [0, 255] before they are shifted and mirrored, and labels as distributions if it
    mixes them; what it returns is clipped to [0, 255]. All its random numbers follow from `rng`. It is built once and
    runs on the CPU: compiled, save for layers of Keras on another backend than TensorFlow.

    Args:
        name: `"keras.NAME"` for a layer of `keras.layers`, `"keras_cv.NAME"` for one of `keras_cv.layers`.
        **arguments: The layer's arguments. `value_range` is (0, 255) unless given; `seed` cannot be given.

    Raises:
        ValueError: If there is no such augmentation layer, if its arguments are missing or unknown, or, when it is
            called, if it changes the shape of images.

    Example:

    >>> images, labels = np.full((1, 2, 2, 3), 55, np.float32), np.ones((1, 1), np.float32)
    >>> bright, _ = KerasLayer("keras.RandomBrightness", factor=(0.2, 0.2))(images, labels, np.random.default_rng(0))
    >>> np.unique(bright).tolist()
    [106.0]
    """

    comes_first = True

    def __init__(self, name, **arguments):
        self._seed, self._run, self._mixes_labels = build_layer(name, arguments)
        self.name = name
        self.arguments = arguments

    def __str__(self):
        arguments = ",".join(f"{name}={value!r}" for name, value in sorted(self.arguments.items()))
        return f"{self.name}:{arguments}" if arguments else self.name

    def mix(self, images, labels, rng, blank):
        import keras

        images = images.astype(np.float32)
        with keras.device("cpu:0"):
            self._seed(rng)
            if self._mixes_labels:
                outputs = self._run({"images": images, "labels": labels})
                mixed, labels = np.asarray(outputs["images"]), np.array(outputs["labels"])
            else:
                mixed = np.asarray(self._run(images))
        if mixed.shape != images.shape:
            raise ValueError(
                f"`{self.name}` must keep the shape of images, {images.shape[1:]}. Received: {mixed.shape[1:]}"
            )
        return mixed.clip(0, 255), labels


MIXINGS = {mixing.__name__.lower(): mixing for mixing in (MixUp, CutMix, RICAP, CutOut)}


def mixing_named(text):
    """Returns the mixing that a text names, such as an argument of the command line.

    Args:
        text: `"mixup"`, `"cutmix"`, `"ricap"` or `"cutout"`, with another parameter than the default after a colon:
            `"mixup:0.2"`. Or a layer with its arguments: `"keras_cv.GridMask"`,
            `"keras_cv.RandomCutout:height_factor=0.3,width_factor=0.3"`.

    Returns:
        A `Mixing`; its `str` is the same text in canonical form.

    Raises:
        ValueError: If the text names none, or if the arguments are wrong.

    Example:

    >>> mixing_named("mixup:0.2")
    MixUp(alpha=0.2)
    >>> str(mixing_named("cutout:16"))
    'cutout'
    """
    name, _, arguments = check_kind(text, "text", str, "a string").partition(":")
    try:
        values, named = _literals(arguments)
    except (SyntaxError, ValueError):
        raise ValueError(
            f"Arguments in `text` must be numbers, strings or tuples of them. Received: text={text!r}"
        ) from None
    if name in MIXINGS and len(values) <= 1 and not named:
        return MIXINGS[name](*values)
    if "." in name and not values:
        return KerasLayer(name, **named)
    raise ValueError(
        "`text` must be mixup, mixup:ALPHA, cutmix, cutmix:ALPHA, ricap, ricap:BETA, cutout, cutout:SIZE, keras.LAYER, "
        f"keras_cv.LAYER, or a layer with arguments, LAYER:NAME=VALUE,NAME=VALUE. Received: text={text!r}"
    )


def _literals(text):
    """Returns the values of `0.2` and of `height_factor=0.3,width_factor=0.3`: a list and a dictionary."""
    call = ast.parse(f"_({text})", mode="eval").body
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and all(key.arg for key in call.keywords)):
        raise ValueError(text)
    values = [ast.literal_eval(value) for value in call.args]
    return values, {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}


def _blend(values, others, weight):
    weight = np.float32(weight)
    return weight * values + (1 - weight) * others


def _clipped(centre, size, side):
    """Returns the part of `size` pixels around a centre that lies within a side."""
    start = centre - size // 2
    return slice(max(start, 0), min(start + size, side))


def _crop(patch, side, rng):
    """Draws where a patch is cropped from a side of its image."""
    size = patch.stop - patch.start
    start = rng.integers(side - size + 1)
    return slice(start, start + size)


def _area(rows, columns):
    return (rows.stop - rows.start) * (columns.stop - columns.start)
