"""The images that training steps are measured on."""

import tempfile
from pathlib import Path

import numpy as np

import decathlon
from decathlon.preparation import open_or_make
from decathlon.sources.npz import open_npz
from decathlon.store import conform

NAME = "colour_digits"


def open_images(name, size, data_dir, out):
    """Opens a prepared data set, by default scikit-learn's digits enlarged to images in colour.

    Args:
        name: Name of a prepared data set, or `None`.
        size: Side in pixels, or `None`: for the digits 32.
        data_dir: Directory of the prepared data.
        out: Directory in which the enlarged digits are kept.

    Returns:
        A `decathlon.Dataset`.

    Raises:
        DataError: If it is not prepared.
    """
    if name:
        return decathlon.open(name, size, data_dir)
    shape = (size or 32, size or 32, 3)
    digits = decathlon.open("digits", data_dir=data_dir)

    def make():
        arrays = {}
        for part, split in (("train", "train"), ("test", digits.evaluation)):
            images, labels = digits.split(split)
            arrays |= {f"x_{part}": conform(images, shape), f"y_{part}": labels}
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "arrays.npz"
            np.savez(path, **arrays)
            decathlon.prepare(NAME, open_npz(path), data_dir=out)

    return open_or_make(out, f"{NAME}-{shape[0]}", lambda dataset: dataset.image_shape == shape, make)
