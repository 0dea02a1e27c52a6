"""Checks of arguments: an error names the argument, what is allowed and what was received."""

import math
import numbers
import os
import reprlib
from pathlib import Path

import numpy as np

REAL = "buif"  # kinds of dtypes
SAMPLE = 1000  # images that are looked at to tell on what scale all are

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80


def check_number(value, name, allowed):
    """Returns a real number that lies in an interval, which is written as `"[0, 1)"`, as a float.

    Raises:
        ValueError: If it is no number of the interval; a `bool` or a string is no number.
    """
    low, high = (float(end) for end in allowed[1:-1].split(","))
    number = _as_float(value)
    above = low <= number if allowed[0] == "[" else low < number
    below = number <= high if allowed[-1] == "]" else number < high
    if above and below:
        return number
    raise ValueError(f"`{name}` must be a number in {allowed}. Received: {name}={shown(value)}")


def check_whole(value, name, least, most=math.inf):
    """Returns a whole number from `least` to `most` as an `int`.

    Raises:
        ValueError: If it is none; a `bool`, or a float such as 2.0, is no whole number.
    """
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and least <= value <= most:
        return int(value)
    allowed = f"of at least {least}" if most == math.inf else f"in {least}..{most}"
    raise ValueError(f"`{name}` must be a whole number {allowed}. Received: {name}={shown(value)}")


def check_bool(value, name):
    """Returns a truth value as a `bool`.

    Raises:
        ValueError: If it is anything else, such as the string `"False"`, which is true.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ValueError(f"`{name}` must be True or False. Received: {name}={shown(value)}")


def check_kind(value, name, kind, described):
    """Returns a value that is of a type, or one of several.

    Raises:
        ValueError: If it is not; `described` says what is allowed.
    """
    if isinstance(value, kind):
        return value
    raise ValueError(f"`{name}` must be {described}. Received: {name}={shown(value)}")


def check_array(value, name):
    """Returns a NumPy array as it is, memory-mapped ones too.

    Raises:
        ValueError: If it is none, or a masked one, whose mask would be lost.
    """
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return value
    raise ValueError(f"`{name}` must be a NumPy array without a mask. Received: {name}={shown(value)}")


def check_images(value, name):
    """Returns images of shape `(N, H, W, C)` as they are.

    Raises:
        ValueError: If they are of another shape, or no real numbers.
    """
    if check_array(value, name).ndim != 4 or value.dtype.kind not in REAL:
        raise ValueError(f"`{name}` must be real numbers of shape (N, H, W, C). Received: {name}={shown(value)}")
    return value


def check_pixels(images, name):
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


def as_blank(value, images):
    """Returns the `blank` image of some images in their dtype: zeros for `None`, rounded where they are integers.

    Raises:
        ValueError: If it is of another shape than each image, or no real numbers.
    """
    shape = images.shape[1:]
    if value is None:
        return np.zeros(shape, images.dtype)
    if check_array(value, "blank").shape != shape or value.dtype.kind not in REAL:
        raise ValueError(f"`blank` must be real numbers of shape {shape}. Received: blank={shown(value)}")
    return (value if images.dtype.kind == "f" else np.rint(value)).astype(images.dtype)


def check_rng(value):
    """Returns a generator of random numbers as it is.

    Raises:
        ValueError: If `rng` is none.
    """
    return check_kind(value, "rng", np.random.Generator, "a `numpy.random.Generator`")


def check_path(value, name):
    """Returns a path as a `Path`.

    Raises:
        ValueError: If it is neither a `Path` nor a string, is empty, or holds a null character.
    """
    if isinstance(value, str | os.PathLike) and value != "" and "\0" not in str(value):
        return Path(value)
    raise ValueError(f"`{name}` must be a path. Received: {name}={shown(value)}")


def shown(value):
    """Returns a value as an error shows it: its `repr`, shortened; of an array dtype and shape."""
    if hasattr(value, "dtype") and getattr(value, "shape", ()) != ():
        return f"<{type(value).__name__} of dtype {value.dtype}, shape {tuple(value.shape)}>"
    return _repr.repr(value)


def _as_float(value):
    """Returns a real number as a float, and NaN for anything else."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # an integer beyond all floats
        return math.nan
