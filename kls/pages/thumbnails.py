"""Small images within a page: which of a network's mistakes and doubts to look at, and how to show them."""

import base64
import io

import numpy as np

from kls.pages.page import File, Picture, Pictures
from kls.utils.arrays import shown

SIDE = 96  # pixels, as shown
COUNT = 12


def png_uri(image):
    """Returns an image as the `data:` URI of a PNG, shrunk to `SIDE` where it is larger.

    Args:
        image: uint8 array of shape `(H, W, C)` with 1 or 3 channels.

    Example:

    >>> png_uri(np.zeros((8, 8, 1), np.uint8))[:22]
    'data:image/png;base64,'
    """
    from PIL import Image

    image = np.asarray(image)
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def as_images(images, count):
    """Returns images as uint8 of shape `(N, H, W, C)`.

    Args:
        images: Array of shape `(N, H, W)` or `(N, H, W, C)` with 1 or 3 channels: uint8, or floats in [0, 1].
        count: The N that is wanted.

    Raises:
        ValueError: If they are no such images.
    """
    found = images[..., None] if getattr(images, "ndim", 0) == 3 else images
    kind = getattr(getattr(found, "dtype", None), "kind", "")
    is_shaped = getattr(found, "ndim", 0) == 4 and len(found) == count and found.shape[3] in (1, 3)
    if not is_shaped or not (found.dtype == np.uint8 or kind == "f") or 0 in found.shape:
        raise ValueError(
            f"`images` must be {count} images of shape (N, H, W, C) with 1 or 3 channels, uint8 or floats in [0, 1]. "
            f"Received: images={shown(images)}"
        )
    if kind != "f":
        return found
    if not (np.min(found) >= 0 and np.max(found) <= 1):
        raise ValueError("`images` must be uint8, or floats in [0, 1]. Received: floats outside")
    return np.uint8(np.round(255 * np.float64(found)))


def confidently_wrong(labels, guesses, confidence, count=COUNT):
    """Returns the indices of the samples that are wrong, the most confident first.

    Example:

    >>> confidently_wrong(np.array([0, 1, 1]), np.array([1, 1, 0]), np.array([0.6, 0.9, 0.8])).tolist()
    [2, 0]
    """
    wrong = np.flatnonzero(labels != guesses)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:count]


def least_in_distribution(scores, count=COUNT):
    """Returns the indices of the samples of the lowest scores, the lowest first.

    Example:

    >>> least_in_distribution(np.array([0.5, 0.1, 0.3]), 2).tolist()
    [1, 2]
    """
    return np.argsort(scores, kind="stable")[:count]


def pictures_of(name, caption, chosen, images, labels, guesses, values, value_name, class_names):
    """Returns images of samples as `Pictures`, and what is known of them as their file.

    Args:
        name: Name of the file.
        caption: What they show.
        chosen: Indices of the samples, in their order.
        images: uint8 images of all samples, shape `(N, H, W, C)`.
        labels: Class indices of all samples.
        guesses: Predicted class indices.
        values: A number of each sample to be shown.
        value_name: What it is.
        class_names: Names of the classes.
    """
    import pandas as pd

    pictures, rows = [], []
    for index in chosen.tolist():
        label, guess = class_names[labels[index]], class_names[guesses[index]]
        value = float(values[index])
        lines = (f"label: {label}", f"prediction: {guess}", f"{value_name}: {value:.3f}")
        is_small = max(images[index].shape[:2]) < SIDE
        pictures.append(Picture(png_uri(images[index]), lines, is_small))
        rows.append({"index": index, "label": label, "prediction": guess, value_name: value})
    file = File.of_frame(name, pd.DataFrame(rows, columns=["index", "label", "prediction", value_name]))
    return Pictures(tuple(pictures), caption, file)
