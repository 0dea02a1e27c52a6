"""How training images are varied and hidden: shifted, mirrored and put under noise, in NumPy."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from decathlon.arguments import as_blank, check_bool, check_images, check_kind, check_number, check_rng, shown

FILLS = ("zero", "reflect")
LEVELS = 255  # the largest value of a pixel


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied, as in Mezzini 2018, section 4.

    Attributes:
        shift: Largest shift in both directions as a share of height and width; whole pixels, rounded down.
        flip: Whether to mirror every second image, on average, left to right.
        fill: What lies outside: `"zero"`, the `blank` image of the batches (0 once a network has subtracted its mean,
            if that is the mean image), or `"reflect"`.
    """

    shift: float = 0.1
    flip: bool = True
    fill: str = "zero"

    def __post_init__(self):
        check_number(self.shift, "shift", "[0, 0.5)")
        object.__setattr__(self, "flip", check_bool(self.flip, "flip"))
        if self.fill not in FILLS:
            raise ValueError(f"`fill` must be one of {', '.join(FILLS)}. Received: fill={self.fill!r}")


def augment(images, augmentation, rng, blank=None):
    """Shifts and mirrors each image of a batch on its own.

    Args:
        images: Array of real numbers of shape `(N, H, W, C)`.
        augmentation: An `Augmentation`.
        rng: A `numpy.random.Generator`.
        blank: Array of real numbers of shape `(H, W, C)`: what lies outside with `fill="zero"`; `None` is zeros.

    Returns:
        Array of the same shape and dtype.

    Raises:
        ValueError: If an argument is of another type or shape.
    """
    check_images(images, "images"), check_rng(rng)
    check_kind(augmentation, "augmentation", Augmentation, "an `Augmentation`")
    augmented = np.broadcast_to(as_blank(blank, images), images.shape).copy()
    down, right, is_mirrored = _drawn(images, augmentation, rng)
    mirrored = iter(_mirrored(images[is_mirrored]))
    height, width = images.shape[1:3]
    for target, image, dy, dx, mirror in zip(augmented, images, down, right, is_mirrored.tolist(), strict=True):
        image = next(mirrored) if mirror else image
        inside = image[max(0, dy) : height + dy, max(0, dx) : width + dx]
        target[max(0, -dy) : height - dy, max(0, -dx) : width - dx] = inside
        if augmentation.fill == "reflect":
            _reflect(target, dy)
            _reflect(target.swapaxes(0, 1), dx)
    return augmented


def _drawn(images, augmentation, rng):
    """Draws the row and the column of each image at which the augmented one begins, and whether it is mirrored."""
    down, right = (
        rng.integers(-most, most + 1, size=len(images))
        for most in (int(augmentation.shift * side + 1e-9) for side in images.shape[1:3])
    )
    is_mirrored = rng.random(len(images)) < 0.5 if augmentation.flip else np.zeros(len(images), bool)
    return down.tolist(), np.where(is_mirrored, -right, right).tolist(), is_mirrored


def _mirrored(images):
    mirrored = np.empty_like(images)
    for channel in range(images.shape[3]):  # all at once take NumPy four times as long
        mirrored[..., channel] = images[:, :, ::-1, channel]
    return mirrored


def _reflect(rows, shift):
    """Fills the rows that a shift has left free with those beyond the border, in reverse."""
    if shift < 0:
        rows[:-shift] = rows[1 - shift : 1 - 2 * shift][::-1]
    elif shift > 0:
        end = len(rows) - shift
        rows[end:] = rows[end - shift - 1 : end - 1][::-1]


@dataclass(frozen=True)
class Noise:
    """What hides images from a denoising autoencoder: a random square, and Gaussian noise over all, square included.

    Song, "Deep Learning Lab final project report", section 3.2 and Figure 3. The paper gives the square's sides, but
    neither its fill nor the deviation. Here the square is of one grey level per image, drawn from U[0, 255], and noised
    images are not clipped.

    Attributes:
        deviation: Standard deviation of the Gaussian noise as a share of the range of pixels, 255; 0 for none.
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

    def __call__(self, images, rng):
        """Returns images under noise, float32.

        Args:
            images: Array of shape `(N, H, W, C)` with pixels in 0..255.
            rng: A `numpy.random.Generator`.

        Raises:
            ValueError: If an argument is of another type or shape, or if the largest square does not fit into images.
        """
        count, height, width = check_images(images, "images").shape[:3]
        if self.sides[1] > min(height, width):
            raise ValueError(f"`images` must have sides of at least {self.sides[1]}. Received: {height}x{width}")
        check_rng(rng)
        side = rng.integers(self.sides[0], self.sides[1] + 1, size=(count, 1))
        rows, columns = (_span(side, extent, rng) for extent in (height, width))
        square = (rows[:, :, None] & columns[:, None, :])[..., None]
        fill = LEVELS * rng.random((count, 1, 1, 1), np.float32)
        noised = rng.standard_normal(images.shape, np.float32)
        noised *= np.float32(LEVELS * self.deviation)
        noised += np.where(square, fill, images)
        return noised


def _span(side, extent, rng):
    """Returns which of `extent` rows or columns a square of `side` covers, wherever it lies: shape `(N, extent)`."""
    start = rng.integers(0, extent - side + 1)
    place = np.arange(extent)
    return (place >= start) & (place < start + side)
