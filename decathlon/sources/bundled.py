"""Datasets that need no download: made from what scikit-learn and matplotlib bring along."""

import string
from pathlib import Path

import numpy as np

from decathlon.sources import Example, Source, SourceError

VERSION = "1"
SEED = 0
GLYPHS = string.digits + string.ascii_uppercase + string.ascii_lowercase
TRAIN_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSansMono", "DejaVuSansMono-Bold"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralBolIta", "cmr10", "cmb10", "cmti10"),
)
VALIDATION_FONTS = ("DejaVuSerif-BoldItalic", "DejaVuSansMono-Oblique", "STIXGeneralItalic", "cmss10", "cmtt10")
COPIES = 2


def open_bundled(name, size):
    """Opens `digits`, `glyphs`, `photos` or `noise`.

    - `digits`: scikit-learn's 1,797 handwritten digits, 8x8, one in five of each class for validation.
    - `glyphs`: SYNTHETIC. 62 digits and letters drawn with matplotlib's fonts, turned, scaled and shifted by
      seed; the fonts of validation are not among those of training.
    - `photos`: patches of scikit-learn's two photographs, `china.jpg` (a palace) and `flower.jpg`, as many of each;
      validation patches come from the right third.
    - `noise`: SYNTHETIC. Uniform and Gaussian noise.

    Args:
        name: One of the above.
        size: Side in pixels at which `glyphs`, `photos` and `noise` are made.

    Returns:
        A `Source` with the splits `train` and `validation`.

    Raises:
        SourceError: If `size` is larger than the photographs.
    """
    return {"digits": _digits, "glyphs": _glyphs, "photos": _photos, "noise": _noise}[name](size)


def _source(description, class_names, channels, train, validation):
    """Makes a source of the `(images, labels)` of both splits."""
    arrays = {"train": train, "validation": validation}

    def read(split):
        for i, (image, label) in enumerate(zip(*arrays[split], strict=True)):
            yield Example(f"{split}[{i}]", image, int(label))

    counts = {split: len(labels) for split, (_, labels) in arrays.items()}
    return Source(f"{description}, version {VERSION}", class_names, channels, counts, "validation", read)


def _digits(_size):
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, labels = load_digits(return_X_y=True)
    images = np.round(values.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    x_train, x_validation, y_train, y_validation = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=SEED
    )
    train, validation = (x_train, y_train), (x_validation, y_validation)
    return _source("scikit-learn digits", list(string.digits), 1, train, validation)


def _glyphs(size):
    train, validation = _draw_split(TRAIN_FONTS, size, seed=0), _draw_split(VALIDATION_FONTS, size, seed=1)
    return _source("synthetic glyphs, matplotlib fonts", list(GLYPHS), 1, train, validation)


def _draw_split(fonts, size, seed):
    import matplotlib
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    rng = np.random.default_rng([SEED, seed])
    images, labels = [], []
    for font in fonts:
        typeface = ImageFont.truetype(str(folder / f"{font}.ttf"), 96)
        for label, character in enumerate(GLYPHS):
            images += [_draw_glyph(typeface, character, size, rng) for _ in range(COPIES)]
            labels += [label] * COPIES
    return np.stack(images), np.array(labels)


def _draw_glyph(typeface, character, size, rng):
    """Draws a white character on black, turned by up to 10 degrees, scaled to 60 to 80 % and shifted by up to 6 %."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (128, 128))
    ImageDraw.Draw(canvas).text((64, 64), character, fill=255, font=typeface, anchor="mm")
    angle, scale = np.deg2rad(rng.uniform(-10, 10)), rng.uniform(1.0, 1.3)
    shift = rng.uniform(-8, 8, size=2)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    x, y = (
        64 - cosine * (64 + shift[0]) - sine * (64 + shift[1]),
        64 + sine * (64 + shift[0]) - cosine * (64 + shift[1]),
    )
    turned = canvas.transform(
        (128, 128), Image.Transform.AFFINE, (cosine, sine, x, -sine, cosine, y), Image.Resampling.BILINEAR
    )
    return np.asarray(turned.resize((size, size), Image.Resampling.BOX))


def _photos(size):
    from sklearn.datasets import load_sample_images

    photos = load_sample_images()
    names = [Path(name).stem for name in photos.filenames]
    left, right = zip(*(np.split(image, [image.shape[1] * 2 // 3], axis=1) for image in photos.images), strict=True)
    largest = min(side for image in left + right for side in image.shape[:2])
    if size > largest:
        raise SourceError(f"photos: patches are at most {largest} pixels wide. Received: size={size}.")
    train, validation = _patches(left, 1000, size, seed=2), _patches(right, 500, size, seed=3)
    return _source("patches of scikit-learn's photographs", names, 3, train, validation)


def _patches(images, count, size, seed):
    rng = np.random.default_rng([SEED, seed])
    patches = []
    for image in images:
        tops = rng.integers(image.shape[0] - size + 1, size=count)
        lefts = rng.integers(image.shape[1] - size + 1, size=count)
        patches += [image[top : top + size, left : left + size] for top, left in zip(tops, lefts, strict=True)]
    return np.stack(patches), np.repeat(np.arange(len(images)), count)


def _noise(size):
    train, validation = _noise_split(1000, size, seed=4), _noise_split(500, size, seed=5)
    return _source("synthetic noise", ["uniform", "gaussian"], 3, train, validation)


def _noise_split(count, size, seed):
    rng = np.random.default_rng([SEED, seed])
    shape = (count, size, size, 3)
    uniform = rng.integers(256, size=shape, dtype=np.uint8)
    gaussian = np.clip(rng.normal(127.5, 64, size=shape), 0, 255).astype(np.uint8)
    return np.concatenate([uniform, gaussian]), np.repeat([0, 1], count)
