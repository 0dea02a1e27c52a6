"""Whether the images of one dataset are among those of another."""

import re
from functools import lru_cache

from decathlon.store import conform

FAMILIES = (
    {"svhn", "svhn_cropped"},
    {"cifar100", "cifar100_full"},
    {"imagenet12", "imagenet_resized", "tiny_imagenet"},
)
FLOWERS = {"flower", "daisy", "dandelion", "lily", "orchid", "poppy", "rose", "sunflower", "tulip"}
FLOWERS |= {f"{name}s" for name in FLOWERS} | {"daisies", "lilies", "poppies"}
LARGEST_SHARE = 0.01  # blank images and the like may be in both


@lru_cache
def overlap(dataset, other, split):
    """Returns why a split of a dataset holds images of another, or `None` if it does not.

    It does if both are versions of one collection, or if more of the split's images, brought to the size and channels
    of `dataset`, are byte for byte among its images than 1 % of the smaller of the two. Half of `photos` shows a
    flower: it does if `dataset`, or one of its classes, is called after flowers.

    Args:
        dataset: A `Dataset`.
        other: A `Dataset`.
        split: Name of the split of `other`.

    Returns:
        A clause, such as `"both are versions of svhn"`, or `None`.

    Example:

    >>> import decathlon
    >>> digits = decathlon.open("digits")
    >>> overlap(digits, digits, "validation")
    'it is the same dataset'
    """
    if dataset.name == other.name or dataset.fingerprint == other.fingerprint:
        return "it is the same dataset"
    for family in FAMILIES:
        if {dataset.name, other.name} <= family:
            return f"both are versions of {min(family, key=len)}"
    flowers = _flowers(dataset)
    if other.name == "photos" and flowers:
        return f"half of photos shows a flower, scikit-learn's flower.jpg, and so do images of {flowers}"
    images, _ = other.split(split)
    known = _hashes(dataset)
    shared = sum(hash(image.tobytes()) in known for image in conform(images, dataset.image_shape))
    if shared > LARGEST_SHARE * min(len(images), len(known)):
        return f"{shared:,} of its {len(images):,} {split} images are among those of {dataset.name}"
    return None


def _flowers(dataset):
    """Returns the first of a dataset's name and its classes' names that means flowers, or `None`."""
    for name in (dataset.name, *dataset.class_names):
        if FLOWERS & set(re.findall("[a-z]+", name.lower())):
            return name
    return None


@lru_cache(maxsize=4)
def _hashes(dataset):
    """Returns the hashes of the images of all splits."""
    return {hash(image.tobytes()) for name in dataset.counts for image in dataset.split(name)[0]}
