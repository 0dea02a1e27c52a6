"""What several tests of `decathlon` call."""

import hashlib
import json
import os

import numpy as np
from scipy import ndimage


def listing(directory):
    return sorted(os.listdir(directory)) if directory.exists() else []


def rewrite(dataset, **changes):
    """Changes fields of a record, and its hash with them."""
    meta = {key: value for key, value in (dataset.meta | changes).items() if key != "hash"}
    meta["hash"] = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
    (dataset.path / "meta.json").write_text(json.dumps(meta))


def contents(batches):
    return [batches[i] for i in range(len(batches))]


def assert_same(left, right):
    assert len(left) == len(right)
    for (left_images, left_labels), (right_images, right_labels) in zip(left, right, strict=True):
        np.testing.assert_array_equal(left_images, right_images)
        np.testing.assert_array_equal(left_labels, right_labels)


def numbered(count):
    """Returns images that are filled with their own number, labelled with it."""
    numbers = np.arange(count)
    return np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (count, 4, 5, 1)).copy(), numbers


def all_variants(image, most_y, most_x, mode):
    """Returns what shifting and mirroring may make of an image, by SciPy, as {(dy, dx, mirrored): image}."""
    shifted = {
        (dy, dx): ndimage.shift(image, (dy, dx, 0), order=0, mode=mode)
        for dy in range(-most_y, most_y + 1)
        for dx in range(-most_x, most_x + 1)
    }
    return {
        (*shift, mirrored): moved[:, ::-1] if mirrored else moved
        for shift, moved in shifted.items()
        for mirrored in (False, True)
    }
